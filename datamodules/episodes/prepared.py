"""Images for a Segmenter: at one or more resolutions, and a small copy for finding edges."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2

from datamodules.episodes.letterbox import Letterboxed, letterbox_image
from datamodules.files.sources import Array

GUIDE_SIDE = 192
"""Longer side in pixels of the copy that edges are looked for in; of 128, 192, 256 and 320 the best for its time."""
GUIDE_SHARE = 0.3
"""A larger square than 641 px has a larger copy, of this part of its side."""


class PreparedImage(NamedTuple):
    """An image for a Segmenter.

    Attributes:
        scales: the image in the network's square, for each resolution, the coarse one first.
        guide: (h, w, 3) uint8 RGB, a small copy.
    """

    scales: list[Letterboxed]
    guide: Array

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the image itself."""
        return self.scales[0].size


def prepare_image(
    image: Array, sides: Sequence[int], tile: bool = False, guide_side: float | None = None
) -> PreparedImage:
    """Prepare an image for a Segmenter.

    Args:
        image: (H, W, 3) uint8 RGB.
        sides: of the squares that it is resized to, in pixels, the smaller one first.
        tile: cut it into tiles of these sides instead.
        guide_side: longer side of its small copy in pixels; None: the default for refinement by colours.
    """
    scales = [letterbox_image(image, side, tile) for side in sides]
    if guide_side is None:
        enlarged = max(1.0, max(image.shape[:2]) / sides[-1]) if tile else 1.0
        guide_side = enlarged * max(GUIDE_SIDE, GUIDE_SHARE * sides[-1])
    return PreparedImage(scales, reduce_image(image, guide_side))


def reduce_image(image: Array, length: float) -> Array:
    """An image (H, W, …), reduced so that its longer side has at most so many pixels; never enlarged."""
    size = reduced_size(image.shape[:2], length)
    return image if size == image.shape[:2] else cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)


def reduced_size(size: Sequence[int], length: float) -> tuple[int, int]:
    """(H, W) → the same proportions with a longer side of at most ``length`` px, and at least 1 px."""
    scale = min(1.0, length / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
