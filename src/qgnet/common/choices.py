"""What may be chosen and is said in a command's help, too: it is read before anything slow is imported."""

from typing import Literal

Year = Literal[2014, 2017]
"""Of COCO."""
Parts = Literal["full", "first-polygon"]
"""Of each of COCO's instances."""
Crowds = Literal["ignore", "background"]
"""What becomes of COCO's crowds."""
Tool = Literal["labelme", "coco", "cvat"]
"""Whose labels become a folder of images and masks."""
LAYOUT = (
    "images/<name>.jpg (or .png, …) and either masks/<name>.png with class numbers and classes.yaml "
    "(1: cat, 2: dog, …), or one black-and-white masks/<class>/<name>.png per class"
)
"""Of such a folder."""
Method = Literal["kmeans", "sample"]
"""How priors are made of features."""
Format = Literal["index", "binary", "coco", "labelme", "overlay", "probability"]
"""What is written of each photograph."""
PRESENCE = 0.6
"""Least score of a photograph that is not left empty."""
