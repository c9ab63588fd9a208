from .finding import find_files
from .images import read_image, read_image_size
from .masks import read_index_mask, read_mask

__all__ = ["find_files", "read_image", "read_image_size", "read_index_mask", "read_mask"]
