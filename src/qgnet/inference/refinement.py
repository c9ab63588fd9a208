"""Refine a probability map to the edges and colours of its image.

The network's positions are at least 16 px apart, so its masks are blobs. The image itself shows where the object ends.
A refiner takes the map and a small copy of the image. It returns a map that crosses the threshold at the object's edge.
"""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, diags_array, eye_array
from scipy.sparse.csgraph import laplacian
from scipy.sparse.linalg import cg

from datamodules.files.sources import Array

Map = NDArray[np.float32]
Refiner = Callable[[Array, Map, float], Map]
"""See :func:`random_walk` for the arguments and the result."""
BINS = 16
"""Bins of a colour histogram per channel; 8 … 24 make no difference on VOC."""
COLOUR_WEIGHT = 0.5
"""Weight of the colour evidence relative to the network's; the best of 0, 0.3, 0.5, 0.7 and 1 on VOC."""
COLOUR_LIMIT = 3.0
"""Largest evidence of a colour, as a log-ratio."""
EVIDENCE_LIMIT = 2.0
"""Largest evidence of a pixel, as logits from the threshold."""
DATA_WEIGHT = 0.01
"""Weight of a pixel's own evidence; each of its four neighbours has weight 1 if its colour is the same."""
EDGE_WEIGHT = 2.0
"""Decay of a neighbour's weight with its squared colour difference, divided by the mean over the image."""
LEAST_BOND = 1e-3
"""Least weight of a neighbour."""
STEPS = 30
"""Most iterations of the solver, which starts from the evidence; 60 give the same masks."""
TOLERANCE = 1e-2
"""Relative residual at which the solver stops."""
AGREEMENT = 0.5
"""Least IoU of a refined mask with the network's; below it, the refined mask is another object's and not used."""
LEAST_EVIDENCE = 4.0
"""Least sum of evidence, for the object and for the rest, to learn colours from."""
EPS = 1e-4


def random_walk(guide: Array, probability: Map, threshold: float) -> Map:
    """Refine by the image's colours and a random walk that stops at its edges, starting from the probabilities.

    The most certain pixels of object and background give a colour model each (histograms, as in GrabCut, Rother et al.
    2004). Their evidence for a pixel is added to the network's. This evidence spreads between neighbours of the same
    colour: random walks with priors (Grady, CVPR 2005), the solution of one sparse linear system.

    Args:
        guide: (h, w, 3) uint8 RGB, the image or a small copy of it.
        probability: (H, W) float32 in [0, 1].
        threshold: probability above which a pixel belongs to the object, in (0, 1).

    Returns:
        (H, W) float32 in (0, 1), above the threshold inside the refined mask; ``probability`` itself if there is too
        little evidence to learn colours from, or if the refined mask is another object's, see `AGREEMENT`.
    """
    size = (guide.shape[1], guide.shape[0])
    evidence = logit(cv2.resize(probability, size, interpolation=cv2.INTER_AREA)) - logit(threshold)
    inside, outside = evidence.clip(0, 1), (-evidence).clip(0, 1)
    if min(inside.sum(), outside.sum()) < LEAST_EVIDENCE:
        return probability
    colours = colour_evidence(guide, inside, outside).clip(-COLOUR_LIMIT, COLOUR_LIMIT)
    both = (evidence + COLOUR_WEIGHT * colours).clip(-EVIDENCE_LIMIT, EVIDENCE_LIMIT)
    refined = spread(guide, both)
    if agreement(refined > 0, evidence > 0) < AGREEMENT:
        return probability
    return as_probability(refined, threshold, probability.shape)


def as_probability(evidence: Map, threshold: float, size: Sequence[int]) -> Map:
    """Logits from the threshold (h, w) → probabilities (H, W) that cross the threshold where the logits cross 0."""
    large = cv2.resize(evidence, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return (1 / (1 + np.exp(-large - logit(threshold)))).astype(np.float32)


def colour_evidence(image: Array, inside: Map, outside: Map) -> Map:
    """Log-ratio of two smoothed colour histograms at each pixel.

    Args:
        image: (h, w, 3) uint8 RGB.
        inside: (h, w), weight of a pixel in the histogram of the object.
        outside: (h, w), weight of a pixel in the histogram of the background.
    """
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    low, high = lab.min(axis=(0, 1)), lab.max(axis=(0, 1))
    bins = ((lab - low) / (high - low + EPS) * BINS).astype(np.intp).clip(0, BINS - 1)
    cells = np.ravel_multi_index(tuple(np.moveaxis(bins, -1, 0)), (BINS, BINS, BINS))
    shares = [_smoothed(np.bincount(cells.ravel(), weight.ravel(), BINS**3)) for weight in (inside, outside)]
    return np.log((shares[0] + EPS) / (shares[1] + EPS)).astype(np.float32)[cells]


def _smoothed(histogram: NDArray[Any]) -> NDArray[np.float64]:
    """Counts (BINS³,) → shares, each bin mixed with its neighbours."""
    cube = histogram.reshape(BINS, BINS, BINS)
    for axis in range(3):
        padded = np.pad(cube, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        below, above = (np.take(padded, np.arange(start, start + BINS), axis) for start in (0, 2))
        cube = 0.5 * cube + 0.25 * below + 0.25 * above
    return cube.ravel() / cube.sum()


def spread(image: Array, evidence: Map) -> Map:
    """Evidence (h, w) → the same after random walks between similar neighbours of the image (h, w, 3) uint8 RGB."""
    colours = image.reshape(-1, 3).astype(np.float32) / 255
    pixels = np.arange(evidence.size).reshape(evidence.shape)
    one = np.concatenate([pixels[:, :-1].ravel(), pixels[:-1].ravel()])
    other = np.concatenate([pixels[:, 1:].ravel(), pixels[1:].ravel()])
    difference = ((colours[one] - colours[other]) ** 2).sum(axis=1)
    bonds = np.exp(-EDGE_WEIGHT * difference / (difference.mean() + EPS**2)) + LEAST_BOND if len(one) else difference
    neighbours = coo_array((bonds, (one, other)), shape=(evidence.size, evidence.size)).tocsr()
    system = (laplacian(neighbours + neighbours.T) + DATA_WEIGHT * eye_array(evidence.size, dtype=np.float32)).tocsr()
    start, jacobi = evidence.ravel(), diags_array(1 / system.diagonal())
    found, _ = cg(system, DATA_WEIGHT * start, x0=start, rtol=TOLERANCE, maxiter=STEPS, M=jacobi)
    return found.reshape(evidence.shape).astype(np.float32)


def agreement(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """IoU of two masks; 0 for two empty masks."""
    union = int(np.count_nonzero(one | other))
    return int(np.count_nonzero(one & other)) / union if union else 0.0


def logit(probability: Any) -> Any:
    """Log-odds of probabilities, which are clipped to `EPS` from 0 and 1."""
    inner = np.clip(probability, EPS, 1 - EPS)
    return np.log(inner / (1 - inner))


REFINERS: dict[str, Refiner] = {"walk": random_walk, "none": lambda guide, probability, threshold: probability}
"""Name → refiner, for refiners without extra packages. The first is taken unless another is clearly better."""
