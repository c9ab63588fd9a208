"""What is written for people and other tools: masks, records, pictures."""

from typing import Literal

Format = Literal["index", "binary", "coco", "labelme", "overlay", "probability"]
"""What is written of each image."""
