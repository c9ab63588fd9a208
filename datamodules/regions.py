"""Regions of images without labels (SLIC, Felzenszwalb, or a grid), and the patches cut from them."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb, slic

from datamodules.sources import Array

METHODS = ("slic", "felzenszwalb", "grid", "random")
"""SLIC is the paper's choice, Felzenszwalb its ablation; the last two ask whether regions matter at all."""
REGION_SIDE = 24
"""Images are shrunk for the segmentation until a region is about this wide: its outline decides only a crop's box."""
MIN_AREA = 0.01
"""A region must cover this share of the image to be cut out as a patch."""
MARGIN = 0.15
"""The crop is wider than its region by up to this share on each side."""


def segment(image: Array, method: str, count: int) -> Array:
    """Cut an image into about ``count`` regions.

    Args:
        image: (H, W, 3) uint8 RGB.
        method: ``slic``, ``felzenszwalb`` or ``grid`` (equal rectangles).
        count: 1 … 255; Felzenszwalb's regions are at least a quarter of the mean size that follows from it.

    Returns:
        (h, w) uint8 region numbers from 0 of the image brought to at most 24 · √count px; numbers above 255 are merged
        into 255.
    """
    height, width = image.shape[:2]
    shrink = min(1.0, REGION_SIDE * count**0.5 / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    if method == "grid":
        return grid(size[1], size[0], count)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if method == "slic":
        labels = slic(small, n_segments=count, compactness=10, start_label=0, channel_axis=-1)
    else:
        smallest = max(1, size[0] * size[1] // (4 * count))
        labels = felzenszwalb(small, scale=200, sigma=0.8, min_size=smallest, channel_axis=-1)
    return np.minimum(labels, 255).astype(np.uint8)


def grid(height: int, width: int, count: int) -> Array:
    """(height, width) uint8 numbers of about ``count`` rectangles of about the same sides."""
    rows = min(height, max(1, round((count * height / width) ** 0.5)))
    columns = min(width, max(1, round(count / rows)))
    row, column = np.arange(height) * rows // height, np.arange(width) * columns // width
    return np.minimum(row[:, None] * columns + column, 255).astype(np.uint8)


class Patch(NamedTuple):
    """A crop of an image.

    Attributes:
        window: rows and columns of the crop.
        fallback: it is a random crop, as the image had no usable region.
    """

    window: tuple[slice, slice]
    fallback: bool


def random_patches(size: tuple[int, int], count: int, number: int, rng: np.random.Generator) -> list[Patch]:
    """Crops of an image of (height, width) at random places, of the size that ``count`` regions would have."""
    shares = count**-0.5 * rng.uniform(1, 1 + 2 * MARGIN, size=number)
    return [Patch(random_window(*size, share, rng), fallback=False) for share in shares]


def draw_patches(regions: Array, size: tuple[int, int], number: int, rng: np.random.Generator) -> list[Patch]:
    """Crops round different regions, as far as there are so many; the margins are drawn.

    Regions under 1 % of the image are not used; where none is left, and where one region fills the image, a random
    crop of a quarter of the image stands in.

    Args:
        regions: (h, w) region numbers of the image at any size.
        size: (height, width) of the image that the crops are for.
        number: of crops.
        rng: of the choice and the margins.
    """
    areas = np.bincount(regions.ravel())
    usable = np.flatnonzero((areas >= MIN_AREA * regions.size) & (areas < regions.size))
    if len(usable) == 0:
        return [Patch(random_window(*size, 0.5, rng), fallback=True) for _ in range(number)]
    chosen = rng.choice(usable, size=number, replace=len(usable) < number)
    return [Patch(region_window(regions == label, size, rng), fallback=False) for label in chosen]


def region_window(inside: NDArray[np.bool_], size: tuple[int, int], rng: np.random.Generator) -> tuple[slice, slice]:
    """The bounding box of a region (h, w) in an image of (height, width), each side moved out by up to 15 % of it."""
    sides = []
    for axis, length in zip((1, 0), size, strict=True):
        along = np.asarray(inside.any(axis=axis))
        positions = np.flatnonzero(along)
        first, last = (length / len(along) * edge for edge in (positions[0], positions[-1] + 1))
        low, high = rng.uniform(0, MARGIN * (last - first), size=2)
        start = min(length - 1, max(0, round(first - low)))
        sides.append(slice(start, max(start + 1, min(length, round(last + high)))))
    return sides[0], sides[1]


def random_window(height: int, width: int, share: float, rng: np.random.Generator) -> tuple[slice, slice]:
    """A crop of this share (0 … 1] of the height and of the width at a random place."""
    h, w = max(1, min(height, round(share * height))), max(1, min(width, round(share * width)))
    top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    return slice(top, top + h), slice(left, left + w)
