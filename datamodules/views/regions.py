"""Regions of images without labels (SLIC, Felzenszwalb, or a grid), and the patches cropped around them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb, slic

from datamodules.files.sources import Array
from qgnet.common.settings import Checked, Range

Method = Literal["slic", "felzenszwalb", "grid", "random"]
"""SLIC is the paper's choice, Felzenszwalb its ablation; the last two are controls without image regions."""
REGION_SIDE = 24
"""Width of a region in pixels after the image is shrunk for segmentation; only the box of a region is used."""
Window = tuple[slice, slice]
"""Rows and columns of an image."""


def segment(image: Array, method: str, count: int) -> Array:
    """Divide (H, W, 3) uint8 RGB into about ``count`` (1 … 255) regions by ``slic``, ``felzenszwalb`` or ``grid``.

    Returns (h, w) uint8 region numbers of the image shrunk to at most 24 · √count px; numbers above 255 become 255.
    Felzenszwalb's regions have at least a quarter of the mean area of ``count`` regions.
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
    """(height, width) uint8 numbers of about ``count`` rectangles of similar size."""
    rows = min(height, max(1, round((count * height / width) ** 0.5)))
    columns = min(width, max(1, round(count / rows)))
    row, column = np.arange(height) * rows // height, np.arange(width) * columns // width
    return np.minimum(row[:, None] * columns + column, 255).astype(np.uint8)


@dataclass(frozen=True)
class PatchRule(metaclass=Checked):
    """How the two local patches of an image are drawn from its regions.

    Args:
        choice: ``each_view``: a region inside each global view, cut at the border of the view. ``two_regions``: two
            regions of the image, independent of the views. ``one_region``: one region twice, with other margins and
            another augmentation. The first two take different regions if possible.
        min_area: least share of the image, or of the view, that a region must cover, in [0, 0.99].
        margin: largest margin of a crop on each side, as a share of its region's side, in [0, 10]; drawn at random.

    Raises:
        InputError: if a share is out of its range.
    """

    prefix = "data.patches"

    choice: Literal["each_view", "two_regions", "one_region"] = "each_view"
    min_area: Annotated[float, Range(0, 0.99)] = 0.01
    margin: Annotated[float, Range(0, 10)] = 0.15


class Patch(NamedTuple):
    """The rows and columns of a crop, and whether it is a random crop because there was no usable region."""

    window: Window
    fallback: bool


def draw_patches(
    regions: Array | None,
    count: int,
    size: tuple[int, int],
    views: Sequence[Window],
    rule: PatchRule,
    rng: np.random.Generator,
) -> list[Patch]:
    """Draw a patch for each global view (rows and columns), after the views are drawn.

    Regions that are too small, or that fill the whole area, are not used. If no region is left, the patch is a random
    crop of half the height and width. Without ``regions``, patches are random crops of the size of one of ``count``
    regions.
    """
    areas = views if rule.choice == "each_view" else [(slice(0, size[0]), slice(0, size[1]))] * len(views)
    boxes: list[Patch] = []
    taken: list[int] = []
    for area in areas:
        if boxes and rule.choice == "one_region":
            boxes.append(boxes[0])
        elif regions is None:
            boxes.append(Patch(random_window(area, size, count**-0.5, rng), fallback=False))
        else:
            boxes.append(region_box(regions, size, area, rule.min_area, taken, rng))
    return [
        box if box.fallback else Patch(widened(box.window, area, rule.margin, rng), fallback=False)
        for box, area in zip(boxes, areas, strict=True)
    ]


def region_box(
    regions: Array,
    size: tuple[int, int],
    area: Window,
    min_area: float,
    taken: list[int],
    rng: np.random.Generator,
) -> Patch:
    """The bounding box of a region that is large enough, or a random crop of half the height and width of the area.

    A region must cover at least the share ``min_area`` of the area, but not all of it. Regions in ``taken`` are used
    only if there are no others. The chosen region is added to ``taken``.
    """
    part = regions[rescaled(area, size, regions.shape)]
    covered = np.bincount(part.ravel())
    usable = np.flatnonzero((covered >= max(1, min_area * part.size)) & (covered < part.size))
    if len(usable) == 0:
        extent = (area[0].stop - area[0].start, area[1].stop - area[1].start)
        return Patch(random_window(area, extent, 0.5, rng), fallback=True)
    fresh = [label for label in usable.tolist() if label not in taken] or usable.tolist()
    label = fresh[rng.integers(len(fresh))]
    taken.append(label)
    return Patch(region_window(regions == label, size, area), fallback=False)


def region_window(inside: NDArray[np.bool_], size: tuple[int, int], area: Window) -> Window:
    """The bounding box of the part of a region (h, w) inside an area of an image of (height, width)."""
    cut = rescaled(area, size, inside.shape)
    sides = []
    for axis, (length, within, part) in enumerate(zip(size, area, cut, strict=True)):
        scale = length / inside.shape[axis]
        positions = np.flatnonzero(inside[cut].any(axis=1 - axis)) + part.start
        start = max(within.start, min(within.stop - 1, round(scale * positions[0])))
        sides.append(slice(start, max(start + 1, min(within.stop, round(scale * (positions[-1] + 1))))))
    return sides[0], sides[1]


def rescaled(window: Window, size: tuple[int, int], other: tuple[int, ...]) -> Window:
    """The same window in an image of another size; it includes pixels that it covers only in part."""
    rows, columns = (
        slice(side.start * new // old, -(-side.stop * new // old))
        for side, old, new in zip(window, size, other, strict=True)
    )
    return rows, columns


def widened(window: Window, area: Window, margin: float, rng: np.random.Generator) -> Window:
    """A window with each edge moved outwards by up to ``margin`` times its side, but not beyond ``area``."""
    sides = []
    for side, within in zip(window, area, strict=True):
        low, high = rng.uniform(0, margin * (side.stop - side.start), size=2)
        sides.append(slice(max(within.start, round(side.start - low)), min(within.stop, round(side.stop + high))))
    return sides[0], sides[1]


def random_window(area: Window, size: tuple[int, int], share: float, rng: np.random.Generator) -> Window:
    """A window at a random place inside an area, with the share (0 … 1] of (height, width)."""
    sides = []
    for within, length in zip(area, size, strict=True):
        side = max(1, min(within.stop - within.start, round(share * length)))
        start = int(rng.integers(within.start, within.stop - side + 1))
        sides.append(slice(start, start + side))
    return sides[0], sides[1]
