"""What may be chosen of a preparation; read before anything slow is imported."""

from typing import Literal

Parts = Literal["full", "first-polygon"]
"""Of each of COCO's instances."""
Crowds = Literal["ignore", "background"]
"""What becomes of COCO's crowds."""
CocoFolds = Literal["interleaved", "contiguous"]
Tool = Literal["labelme", "coco", "cvat"]
"""Whose labels become a folder of images and masks."""
LAYOUT = (
    "images/<name>.jpg (or .png, …) and either masks/<name>.png with class numbers and classes.yaml "
    "(1: cat, 2: dog, …), or one black-and-white masks/<class>/<name>.png per class"
)
"""Of such a folder."""
