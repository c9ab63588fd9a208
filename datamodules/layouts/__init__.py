"""How each data set lies in its folder: classes, folds, images and masks; no torch, so that preparing needs none."""

from typing import Literal

Year = Literal[2014, 2017]
"""Of COCO."""
Parts = Literal["full", "first-polygon"]
"""Of each of COCO's instances."""
Crowds = Literal["ignore", "background"]
"""What becomes of COCO's crowds."""
LAYOUT = (
    "images/<name>.jpg (or .png, …) and either masks/<name>.png with class numbers and classes.yaml "
    "(1: cat, 2: dog, …), or one black-and-white masks/<class>/<name>.png per class"
)
"""Of a folder of images and masks."""
