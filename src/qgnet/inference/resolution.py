"""Which resolution the supports ask for."""

from collections.abc import Iterable

import cv2
import numpy as np

from datamodules.files.sources import Array

SIDES = (321, 481, 641)
"""Sides in pixels of the square, of which one is chosen. At 641 px an image takes 0.35 s on two cores."""
POSITIONS = 8.0
"""Positions of the network that the smallest object shall span, so that its shape can be told."""
MOST_ENLARGED = 2.0
"""Images are brought to at most this multiple of their own size: beyond it there is nothing more to see."""


def object_size(mask: Array) -> float:
    """The size of a mask's object, in pixels: the root of its area, of several parts that of a typical one.

    A typical part is the one with as much area in larger parts as in smaller ones: neither specks nor holes count.

    Args:
        mask: (H, W) uint8, of which 1 is the object; at least one pixel.
    """
    _, _, stats, _ = cv2.connectedComponentsWithStats((mask == 1).astype(np.uint8), connectivity=8)
    areas = np.sort(stats[1:, cv2.CC_STAT_AREA])
    return float(np.sqrt(areas[np.searchsorted(np.cumsum(areas), areas.sum() / 2)]))


def smallest_share(masks: Iterable[Array]) -> float:
    """Size of the smallest support's object against the longer side of its image, in (0, 1]."""
    return min(object_size(mask) / max(mask.shape) for mask in masks)


def choose_side(masks: Iterable[Array], stride: int) -> int:
    """The smallest of `SIDES` at which the smallest object spans `POSITIONS`; else the largest that images allow.

    Args:
        masks: of the supports, (H, W) uint8, of which 1 is the object.
        stride: pixels between two positions of the network.
    """
    masks = list(masks)
    share, longest = smallest_share(masks), max(max(mask.shape) for mask in masks)
    allowed = [side for side in SIDES if side <= MOST_ENLARGED * longest] or [SIDES[0]]
    return next((side for side in allowed if side * share >= POSITIONS * stride), allowed[-1])
