from .annotations import Skipped
from .coco_masks import draw_masks
from .download import fetch_archive
from .labels import convert

__all__ = ["Skipped", "convert", "draw_masks", "fetch_archive"]
