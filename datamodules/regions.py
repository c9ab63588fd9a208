"""Regions of images without labels (SLIC, Felzenszwalb, or a grid), and the patches cut from them."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb, slic

from datamodules.errors import InputError
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
        (H, W) uint8 region numbers from 0; numbers above 255 are merged into 255.
    """
    height, width = image.shape[:2]
    if method == "grid":
        return grid(height, width, count)
    shrink = min(1.0, REGION_SIDE * count**0.5 / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if method == "slic":
        labels = slic(small, n_segments=count, compactness=10, start_label=0, channel_axis=-1)
    else:
        smallest = max(1, size[0] * size[1] // (4 * count))
        labels = felzenszwalb(small, scale=200, sigma=0.8, min_size=smallest, channel_axis=-1)
    regions = np.minimum(labels, 255).astype(np.uint8)
    return cv2.resize(regions, (width, height), interpolation=cv2.INTER_NEAREST)


def grid(height: int, width: int, count: int) -> Array:
    """(height, width) uint8 numbers of about ``count`` rectangles of about the same sides."""
    rows = min(height, max(1, round((count * height / width) ** 0.5)))
    columns = min(width, max(1, round(count / rows)))
    row, column = np.arange(height) * rows // height, np.arange(width) * columns // width
    return np.minimum(row[:, None] * columns + column, 255).astype(np.uint8)


class RegionMaps:
    """Region maps, computed when first asked for and then kept as PNG files, and patches drawn from them.

    Args:
        method: one of ``METHODS``; ``random`` needs no map.
        count: about how many regions an image is cut into.
        cache: folder for the maps; None computes them each time.

    Raises:
        InputError: for an unknown method or count.
    """

    def __init__(self, method: str, count: int, cache: Path | None) -> None:
        if method not in METHODS:
            raise InputError(f"data.regions is {method!r}; expected one of {', '.join(METHODS)}.")
        if not 1 <= count <= 255:
            raise InputError(f"data.region_count is {count}; expected 1 … 255.")
        self.method = method
        self.count = count
        self.cache = cache

    def patches(self, image: Array, name: str, number: int, rng: np.random.Generator) -> list["Patch"]:
        """Crops of (H, W, 3) uint8: round regions, or at random places and of a region's size."""
        if self.method == "random":
            shares = self.count**-0.5 * rng.uniform(1, 1 + 2 * MARGIN, size=number)
            return [
                Patch(random_window(image.shape[0], image.shape[1], share, rng), fallback=False) for share in shares
            ]
        return draw_patches(self.of(image, name), number, rng)

    def of(self, image: Array, name: str) -> Array:
        """(H, W, 3) uint8 → (H, W) uint8 region numbers; ``name`` and pixels identify it in the cache."""
        if self.cache is None or self.method == "grid":
            return segment(image, self.method, self.count)
        pixels = hashlib.sha256(image.tobytes()).hexdigest()[:16]
        path = self.cache / f"{self.method}-{self.count}" / f"{Path(name).name}-{pixels}.png"
        if path.exists():
            stored = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            if stored is not None and stored.shape == image.shape[:2]:
                return stored
        labels = segment(image, self.method, self.count)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.png")
        if not cv2.imwrite(str(part), labels):
            raise InputError(f"The region map {path} cannot be written. Free space, or set --data.region_cache.")
        part.replace(path)
        return labels


class Patch(NamedTuple):
    """A crop of an image.

    Attributes:
        window: rows and columns of the crop.
        fallback: it is a random crop, as the image had no usable region.
    """

    window: tuple[slice, slice]
    fallback: bool


def draw_patches(regions: Array, number: int, rng: np.random.Generator) -> list[Patch]:
    """Crops round different regions of (H, W), as far as there are so many; the margins are drawn.

    Regions under 1 % of the image are not used; where none is left, and where one region fills the image, a random
    crop of a quarter of the image stands in.
    """
    height, width = regions.shape
    areas = np.bincount(regions.ravel())
    usable = np.flatnonzero((areas >= MIN_AREA * regions.size) & (areas < regions.size))
    if len(usable) == 0:
        return [Patch(random_window(height, width, 0.5, rng), fallback=True) for _ in range(number)]
    chosen = rng.choice(usable, size=number, replace=len(usable) < number)
    return [Patch(region_window(regions == label, rng), fallback=False) for label in chosen]


def region_window(inside: NDArray[np.bool_], rng: np.random.Generator) -> tuple[slice, slice]:
    """The bounding box of a region, each side moved out by up to 15 % of the box."""
    sides = []
    for axis in (1, 0):
        along = np.asarray(inside.any(axis=axis))
        positions = np.flatnonzero(along)
        first, last = int(positions[0]), int(positions[-1]) + 1
        grow = MARGIN * (last - first)
        low, high = rng.uniform(0, grow, size=2)
        sides.append(slice(max(0, round(first - low)), min(len(along), round(last + high))))
    return sides[0], sides[1]


def random_window(height: int, width: int, share: float, rng: np.random.Generator) -> tuple[slice, slice]:
    """A crop of this share (0 … 1] of the height and of the width at a random place."""
    h, w = max(1, min(height, round(share * height))), max(1, min(width, round(share * width)))
    top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    return slice(top, top + h), slice(left, left + w)
