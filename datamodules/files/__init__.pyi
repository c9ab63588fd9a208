from .classes import check_distinct, check_printable, reserved_number
from .finding import find_files
from .images import read_image, read_image_size
from .index import INDEX_FOLDER, MaskIndex, fingerprint
from .lists import read_classes, read_lines, read_list
from .masks import read_index_mask, read_mask, some_values
from .png import write_plain_png
from .sources import IGNORE, BinaryMasks, IndexMasks, LabelledImages, require_folder
from .writing import atomic_write

__all__ = [
    "IGNORE",
    "INDEX_FOLDER",
    "BinaryMasks",
    "IndexMasks",
    "LabelledImages",
    "MaskIndex",
    "atomic_write",
    "check_distinct",
    "check_printable",
    "find_files",
    "fingerprint",
    "read_classes",
    "read_image",
    "read_image_size",
    "read_index_mask",
    "read_lines",
    "read_list",
    "read_mask",
    "require_folder",
    "reserved_number",
    "some_values",
    "write_plain_png",
]
