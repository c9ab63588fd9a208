from .finding import find_files
from .masks import read_index_mask, read_mask
from .pictures import picture_size, read_picture

__all__ = ["find_files", "picture_size", "read_index_mask", "read_mask", "read_picture"]
