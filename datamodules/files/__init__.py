"""The one room in which files are found and read: pictures and masks as a viewer shows them, or refused by name."""

from datamodules.files.finding import find_files
from datamodules.files.masks import read_index_mask, read_mask
from datamodules.files.pictures import picture_size, read_picture

__all__ = ["find_files", "picture_size", "read_index_mask", "read_mask", "read_picture"]
