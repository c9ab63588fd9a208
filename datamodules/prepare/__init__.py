"""Preparations: download, convert, index and count; a file per data set."""

from typing import Literal

Tool = Literal["labelme", "coco", "cvat"]
"""Whose labels become a folder of images and masks."""
