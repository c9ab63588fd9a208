"""Grow rough strokes to the edge of the object, first by distance and edges, then by the colours of the image."""

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import watershed

from datamodules.files.sources import IGNORE, Array
from qgnet.inference.refinement import colour_evidence

COARSE = 200
"""Longer side, in pixels, of the image for finding the object."""
FINE = 1024
"""Longer side, in pixels, of the image for drawing its edge."""
NEARNESS = 2 / 3
"""Weight of the distance to the strokes in the first guess; the rest is the weight of edges between them."""
TURNS = 2
"""Iterations of GrabCut."""
CLEAR = 1 / 8
"""Least distance of border pixels from the strokes, as a share of the longer side, to count as background in an
image without background strokes."""

ALIKE = 1.0
"""A colour is the object's if it is e times as frequent there as in the background strokes: least log-ratio."""


def snap(image: Array, strokes: Array) -> Array:
    """Grow rough strokes to the edge of the object.

    Args:
        image: (H, W, 3) uint8 RGB.
        strokes: (H, W) uint8: 1 object, 0 background, 255 not painted. Without background strokes, the border of the
            image is background, except near the object's strokes.

    Returns:
        (H, W) uint8 in {0, 1}: the parts of the object that a stroke touches. Strokes stay unchanged. All 0 without
        an object stroke; the object's strokes alone if no pixel can be background.
    """
    return (grow(image, strokes) == 1).astype(np.uint8)


def grow(image: Array, strokes: Array) -> Array:
    """Like :func:`snap`, with 255 for untouched pixels in the object's colours, which may be another object."""
    if not (strokes == 1).any():
        return np.zeros_like(strokes)
    seeds = strokes if (strokes == 0).any() else with_border(strokes)
    if not (seeds == 0).any():
        return (strokes == 1).astype(np.uint8)
    small, small_seeds = reduced(image, seeds, COARSE)
    found = touched(by_colours(small, small_seeds, first_guess(small, small_seeds)), small_seeds)
    mask = with_edge(image, seeds, found)
    colours = colour_evidence(small, found.astype(np.float32), (small_seeds == 0).astype(np.float32))
    alike = cv2.resize((colours > ALIKE).astype(np.uint8), mask.shape[::-1], interpolation=cv2.INTER_NEAREST)
    mask[(alike == 1) & (mask == 0)] = IGNORE
    mask[strokes == 1] = 1
    mask[strokes == 0] = 0
    return mask


def with_border(strokes: Array) -> Array:
    """Strokes with the border of the image as background, where it is far from the object's strokes."""
    seeds = strokes.copy()
    border = np.ones(strokes.shape, bool)
    border[1:-1, 1:-1] = False
    seeds[border & (distance(strokes == 1) > CLEAR * max(strokes.shape))] = 0
    return seeds


def reduced(image: Array, seeds: Array, side: int) -> tuple[Array, Array]:
    """Image and strokes with a longer side of at most ``side`` px; thin strokes are kept."""
    scale = side / max(seeds.shape)
    if scale >= 1:
        return image, seeds
    size = (max(1, round(seeds.shape[1] * scale)), max(1, round(seeds.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), resize_strokes(seeds, size)


def resize_strokes(strokes: Array, size: tuple[int, int]) -> Array:
    """Strokes (H, W) in {0, 1, 255} at a smaller ``size`` (width, height); thin strokes are kept."""
    cover = [cv2.resize((strokes == label).astype(np.float32), size, interpolation=cv2.INTER_AREA) for label in (0, 1)]
    resized = np.full(cover[0].shape, IGNORE, np.uint8)
    resized[cover[0] > 0] = 0
    resized[(cover[1] > 0) & (cover[1] >= cover[0])] = 1
    return resized


def first_guess(image: Array, seeds: Array) -> NDArray[np.bool_]:
    """The pixels (h, w) nearer to the object's strokes, by distance and by the edges between."""
    to_object, to_background = distance(seeds == 1), distance(seeds == 0)
    near = to_background / np.maximum(to_object + to_background, 1e-6)
    return NEARNESS * near + (1 - NEARNESS) * flooded(image, seeds) > 0.5


def by_colours(image: Array, seeds: Array, guess: NDArray[np.bool_]) -> Array:
    """The object (h, w) in {0, 1} by GrabCut, which starts from a guess and keeps the strokes."""
    mask = np.where(guess, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    mask[seeds == 1] = cv2.GC_FGD
    mask[seeds == 0] = cv2.GC_BGD
    if (mask & 1).all() or not (mask & 1).any():  # there are no colours to separate
        return (mask & 1).astype(np.uint8)
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(image), mask, (0, 0, 1, 1), *models, TURNS, cv2.GC_INIT_WITH_MASK)
    return (mask & 1).astype(np.uint8)  # the certain and the probable object


def touched(mask: Array, seeds: Array) -> Array:
    """The connected parts of a mask that an object stroke touches."""
    _, parts = cv2.connectedComponents(mask, connectivity=8)
    return np.isin(parts, np.unique(parts[(seeds == 1) & (mask == 1)])).astype(np.uint8)


def with_edge(image: Array, seeds: Array, found: Array) -> Array:
    """A coarse mask at the size of the image, with its edge moved to the nearest edge of the image."""
    height, width = seeds.shape
    if found.shape == seeds.shape:
        return found
    fine, fine_seeds = reduced(image, seeds, FINE)
    mask = cv2.resize(found, fine_seeds.shape[::-1], interpolation=cv2.INTER_NEAREST)
    reach = 1.5 * max(fine_seeds.shape) / max(found.shape)
    known = np.full(mask.shape, IGNORE, np.uint8)
    known[(mask == 0) & (distance(mask == 1) > reach)] = 0
    known[(mask == 1) & (distance(mask == 0) > reach)] = 1
    known[fine_seeds != IGNORE] = fine_seeds[fine_seeds != IGNORE]
    return cv2.resize(flooded(fine, known), (width, height), interpolation=cv2.INTER_NEAREST)


def flooded(image: Array, seeds: Array) -> Array:
    """The object (h, w) in {0, 1}: each pixel belongs to the seeds that reach it over the lowest edges."""
    colours = cv2.GaussianBlur(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), (0, 0), 1)
    steps = [cv2.Sobel(colours, cv2.CV_32F, *axis) for axis in ((1, 0), (0, 1))]
    edges = np.sqrt(sum((step**2).sum(axis=2) for step in steps))
    return (watershed(edges, np.where(seeds == 1, 1, np.where(seeds == 0, 2, 0))) == 1).astype(np.uint8)


def distance(there: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance (h, w) of each pixel to the nearest True pixel, in pixels."""
    return np.asarray(cv2.distanceTransform((~there).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)
