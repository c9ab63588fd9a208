"""The choices of a preparation. Imports nothing slow."""

from typing import Literal

Parts = Literal["full", "first-polygon"]
"""Parts of each COCO instance that are drawn."""
Crowds = Literal["ignore", "background"]
"""How COCO's crowds are drawn."""
CocoFolds = Literal["interleaved", "contiguous"]
Tool = Literal["labelme", "coco", "cvat"]
"""Tools whose labels are converted to a folder of images and masks."""
LAYOUT = (
    "images/<name>.jpg (or .png, …) and either masks/<name>.png with class numbers and classes.yaml "
    "(1: cat, 2: dog, …), or one black-and-white masks/<class>/<name>.png per class"
)
"""Layout of such a folder."""
