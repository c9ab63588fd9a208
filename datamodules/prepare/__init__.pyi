from .annotations import Skipped
from .coco_masks import draw_masks
from .labels import convert

__all__ = ["Skipped", "convert", "draw_masks"]
