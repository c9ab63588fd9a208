"""Rough strokes grown to the edge of the object: by nearness and edges first, then by the image's own colours."""

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import watershed

from datamodules.files.sources import IGNORE, Array
from qgnet.inference.refinement import colour_evidence

COARSE = 200
"""Longer side in pixels of the image in which the object is found."""
FINE = 1024
"""Longer side in pixels of the image in which its edge is drawn."""
NEARNESS = 2 / 3
"""Weight of nearness to the strokes, against that of edges between them, in the first guess."""
TURNS = 2
"""Of GrabCut."""
CLEAR = 1 / 8
"""Of an image without a stroke of background: its border counts as such where it is further than this part of its
longer side from the strokes."""

ALIKE = 1.0
"""A colour is the object's if it is e times as frequent there as in the strokes of background."""


def snap(image: Array, strokes: Array) -> Array:
    """Grow rough strokes to the edge of the object.

    Args:
        image: (H, W, 3) uint8 RGB.
        strokes: (H, W) uint8: 1 object, 0 background, 255 not painted. Without background the image's border is taken
            for it, except near the object's strokes.

    Returns:
        (H, W) uint8 in {0, 1}: the parts of the object that a stroke touches. Strokes stay as they are. All 0 if no
        stroke is of the object; if nothing can be background, the object's strokes alone.
    """
    return (grow(image, strokes) == 1).astype(np.uint8)


def grow(image: Array, strokes: Array) -> Array:
    """As :func:`snap`, with 255 for what has the object's colours, too, and is touched by no stroke: it may be one."""
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
    """Strokes with the image's border as background, where that is far from them."""
    seeds = strokes.copy()
    border = np.ones(strokes.shape, bool)
    border[1:-1, 1:-1] = False
    seeds[border & (distance(strokes == 1) > CLEAR * max(strokes.shape))] = 0
    return seeds


def reduced(image: Array, seeds: Array, side: int) -> tuple[Array, Array]:
    """Image and strokes with at most ``side`` px; no stroke is lost, however thin it is."""
    scale = side / max(seeds.shape)
    if scale >= 1:
        return image, seeds
    size = (max(1, round(seeds.shape[1] * scale)), max(1, round(seeds.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), resize_strokes(seeds, size)


def resize_strokes(strokes: Array, size: tuple[int, int]) -> Array:
    """(H, W) in {0, 1, 255} at a smaller ``size`` (width, height): no stroke is lost, however thin it is."""
    cover = [cv2.resize((strokes == label).astype(np.float32), size, interpolation=cv2.INTER_AREA) for label in (0, 1)]
    resized = np.full(cover[0].shape, IGNORE, np.uint8)
    resized[cover[0] > 0] = 0
    resized[(cover[1] > 0) & (cover[1] >= cover[0])] = 1
    return resized


def first_guess(image: Array, seeds: Array) -> NDArray[np.bool_]:
    """(h, w): what is nearer to the object's strokes, also as seen by the edges between."""
    to_object, to_background = distance(seeds == 1), distance(seeds == 0)
    near = to_background / np.maximum(to_object + to_background, 1e-6)
    return NEARNESS * near + (1 - NEARNESS) * flooded(image, seeds) > 0.5


def by_colours(image: Array, seeds: Array, guess: NDArray[np.bool_]) -> Array:
    """(h, w) in {0, 1}: GrabCut, which begins with a guess and keeps the strokes."""
    mask = np.where(guess, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    mask[seeds == 1] = cv2.GC_FGD
    mask[seeds == 0] = cv2.GC_BGD
    if (mask & 1).all() or not (mask & 1).any():  # there are no colours to tell apart
        return (mask & 1).astype(np.uint8)
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(image), mask, (0, 0, 1, 1), *models, TURNS, cv2.GC_INIT_WITH_MASK)
    return (mask & 1).astype(np.uint8)  # of the sure and of the probable object


def touched(mask: Array, seeds: Array) -> Array:
    """The connected parts of a mask that a stroke of the object touches."""
    _, parts = cv2.connectedComponents(mask, connectivity=8)
    return np.isin(parts, np.unique(parts[(seeds == 1) & (mask == 1)])).astype(np.uint8)


def with_edge(image: Array, seeds: Array, found: Array) -> Array:
    """A coarse mask at the image's own size, its edge moved to the image's edge beside it."""
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
    """(h, w) in {0, 1}: each place goes to the seeds that reach it over the lower edges."""
    colours = cv2.GaussianBlur(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), (0, 0), 1)
    steps = [cv2.Sobel(colours, cv2.CV_32F, *axis) for axis in ((1, 0), (0, 1))]
    edges = np.sqrt(sum((step**2).sum(axis=2) for step in steps))
    return (watershed(edges, np.where(seeds == 1, 1, np.where(seeds == 0, 2, 0))) == 1).astype(np.uint8)


def distance(there: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(h, w): of each pixel to the next one that is there, in pixels."""
    return np.asarray(cv2.distanceTransform((~there).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)
