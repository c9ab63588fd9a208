"""Choose the resolution by the sizes of the supports' objects."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from datamodules.files.sources import Array

SIDES = (481, 641)
"""Sides in pixels of the larger square. At 641 px an image takes 0.35 s on two cores."""
POSITIONS = 8.0
"""Positions of the network that the smallest object should span to keep its shape."""
LEAST_POSITIONS = 4.0
"""Least positions of the coarse scale that an object spans if the coarse score map is useful for its mask."""
BOTH = 0.5
"""Weight of the coarse score map if both scales are joined."""
MOST_ENLARGED = 2.0
"""Largest enlargement of an image, relative to its own size; a larger one shows no more detail."""


def object_size(mask: Array) -> float:
    """The size of a mask's object in pixels: the square root of its area, or of the area of its typical part.

    The typical part is the area-weighted median of the connected parts, so that specks and holes do not count.

    Args:
        mask: (H, W) uint8; 1 is the object, with at least one pixel.
    """
    _, _, stats, _ = cv2.connectedComponentsWithStats((mask == 1).astype(np.uint8), connectivity=8)
    areas = np.sort(stats[1:, cv2.CC_STAT_AREA])
    return float(np.sqrt(areas[np.searchsorted(np.cumsum(areas), areas.sum() / 2)]))


def smallest_share(masks: Iterable[Array]) -> float:
    """The smallest ratio of object size to the longer side of its image among the supports, in (0, 1]."""
    return min(object_size(mask) / max(mask.shape) for mask in masks)


def choose_sides(masks: Iterable[Array], own: int, stride: int | None) -> list[int]:
    """The network's own side and, where the supports' objects are small, a larger one.

    It is the smallest of `SIDES` at which the smallest object spans `POSITIONS`, or the largest that the images allow.

    Args:
        masks: of the supports, (H, W) uint8, of which 1 is the object.
        own: side in pixels that the network is used at otherwise.
        stride: pixels between two of its positions; None of a network that is used at its own side alone.

    Returns:
        One side or two, in pixels, the smaller one first.
    """
    masks = list(masks)
    longest = max(max(mask.shape) for mask in masks)
    allowed = [own, *(side for side in SIDES if own < side <= MOST_ENLARGED * longest)]
    if stride is None:
        return [own]
    share = smallest_share(masks)
    chosen = next((side for side in allowed if side * share >= POSITIONS * stride), allowed[-1])
    return sorted({own, chosen})


def coarse_weights(masks: Iterable[Array], sides: Sequence[int], stride: int | None) -> list[float]:
    """Weights of the coarse scale to choose from, the most likely first; [1] for a single scale.

    Args:
        masks: masks of a class's supports, (H, W) uint8; 1 is the object.
        sides: sides of both scales in pixels, the coarse one first.
        stride: pixels between two positions of the network; None if it has only one side.
    """
    if len(sides) == 1 or stride is None:
        return [1.0]
    sees = smallest_share(masks) * sides[0] >= LEAST_POSITIONS * stride
    return [BOTH, 0.0] if sees else [0.0, BOTH]
