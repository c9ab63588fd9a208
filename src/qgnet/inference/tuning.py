"""What is fitted of a class by its supports: scales, threshold and refinement, and which support disagrees."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from datamodules.episodes.transforms import resize_mask
from datamodules.files.sources import IGNORE, Array
from qgnet.inference.refinement import Refiner
from qgnet.metrics import intersection_and_union

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(4, 17))
"""Thresholds: 0.2 … 0.8."""
HALF = 0.5
MIN_GAIN = 0.02
"""IoU that a threshold must gain to be preferred to one nearer to a half; of 0 … 0.2 the best at 5 shots on VOC."""
MIN_GAIN_SINGLE = 0.2
"""The same of a single support, whose mirrored copy is more like it than any image: it is only heeded where it
says much; of 0.01 … 0.4 the best on VOC."""
OUTLIER_RATIO = 0.5
"""A support disagrees if the others find it with less than this part of their median IoU."""
SHRINK = 0.8
DARKEN = 0.85
"""Size and brightness of the mirrored copy that a single support is tried on."""


class SupportReport(NamedTuple):
    """How a support goes with the others of its class.

    Attributes:
        class_name: its class.
        number: which support of the class, from 1.
        iou: with its mask, of what the other supports find in it; of a single support in its mirrored copy.
        disagrees: whether the others find it much worse than each other, as if it showed something else.
    """

    class_name: str
    number: int
    iou: float
    disagrees: bool


class Trial(NamedTuple):
    """A support, segmented by the others; of a single one its mirrored copy, by itself.

    Attributes:
        score_maps: (H, W) float32 for each scale, the coarse one first.
        guide: (h, w, 3) uint8, see `PreparedImage`.
        mask: (H, W) uint8 in {0, 1, 255}, the truth.
    """

    score_maps: list[Tensor]
    guide: Array
    mask: Tensor


class Choice(NamedTuple):
    """How a class is segmented.

    Attributes:
        threshold: probability above which a pixel is of the class.
        coarse_weight: of the coarse scale's score map, in [0, 1]; the rest is the fine one's. 1 where there is one.
        refinement: name of a refiner.
    """

    threshold: float = 0.5
    coarse_weight: float = 1.0
    refinement: str = "none"


class FittedClass(NamedTuple):
    """A class that can be segmented.

    Attributes:
        name: of the class.
        encoded: its K supports, stacked for one query, as the network takes them, for each scale.
        choice: how it is segmented.
        supports: how each of them goes with the others.
        support_similarity: of several supports' objects, found in each other, see `Calibration`; of a single one 0.
    """

    name: str
    encoded: list[Any]
    choice: Choice
    supports: list[SupportReport]
    support_similarity: float = 0.0

    @property
    def threshold(self) -> float:
        """Probability above which a pixel is of the class."""
        return self.choice.threshold

    @property
    def expected_iou(self) -> float:
        """What to expect: mean IoU of what the supports find in each other; of one alone in its mirrored copy."""
        return sum(report.iou for report in self.supports) / len(self.supports)


def join_scales(score_maps: Sequence[Tensor], coarse_weight: float) -> Tensor:
    """(H, W) score maps of one scale or two, the coarse one first → one."""
    if len(score_maps) == 1:
        return score_maps[0]
    coarse, fine = score_maps
    return coarse_weight * coarse + (1 - coarse_weight) * fine


def choose(
    trials: Sequence[Trial],
    coarse_weights: Sequence[float],
    refiners: Mapping[str, Refiner],
    threshold: float | None,
    alone: float | None,
) -> tuple[Choice, list[float]]:
    """How the supports are segmented best.

    Args:
        trials: of all supports of a class.
        coarse_weights: to choose from. The first is taken unless another is clearly better.
        refiners: name → refiner, to choose from in the same way.
        threshold: see `Choice`; None: to choose, too.
        alone: see `choose_threshold`.

    Returns:
        The choice, and the IoU that each support then has.
    """
    found: list[tuple[Choice, list[float]]] = []
    for weight in coarse_weights:
        maps = [join_scales(trial.score_maps, weight).sigmoid() for trial in trials]
        chosen = threshold or choose_threshold(maps, [trial.mask for trial in trials], alone)
        for name, refiner in refiners.items():
            refined = [
                torch.from_numpy(refiner(trial.guide, map_.numpy(), chosen))
                for trial, map_ in zip(trials, maps, strict=True)
            ]
            ious = [iou(p > chosen, trial.mask) for p, trial in zip(refined, trials, strict=True)]
            found.append((Choice(chosen, weight, name), ious))
    min_gain = MIN_GAIN_SINGLE if len(trials) == 1 else MIN_GAIN
    best = max(found, key=lambda one: sum(one[1]))
    return best if sum(best[1]) - sum(found[0][1]) > min_gain * len(trials) else found[0]


def choose_threshold(probabilities: Sequence[Tensor], masks: Sequence[Tensor], alone: float | None = None) -> float:
    """The threshold that serves best.

    Args:
        probabilities: (H, W) in [0, 1], of N images.
        masks: (H, W) in {0, 1, 255}, of the same.
        alone: threshold that a single support is expected to serve best with; None: a half.
    """
    expected, min_gain = (alone or HALF, MIN_GAIN_SINGLE) if len(masks) == 1 else (HALF, MIN_GAIN)
    scores = {t: [iou(p > t, mask) for p, mask in zip(probabilities, masks, strict=True)] for t in THRESHOLDS}
    best = max(sum(each) for each in scores.values())
    good = [t for t, each in scores.items() if (best - sum(each)) / len(masks) <= min_gain]
    return min(good, key=lambda t: abs(t - expected))


def iou(prediction: Tensor, mask: Tensor) -> float:
    """Of the foreground, (H, W) bool against (H, W) in {0, 1, 255}."""
    intersection, union = intersection_and_union(prediction.to(torch.uint8), mask)
    return float(intersection[1] / union[1]) if union[1] else 1.0


def support_reports(name: str, ious: Sequence[float]) -> list[SupportReport]:
    """Of a class's supports; with two of them there is no telling which is the odd one."""
    found = []
    for i, value in enumerate(ious):
        others = [*ious[:i], *ious[i + 1 :]]
        disagrees = len(others) > 1 and value < OUTLIER_RATIO * median(others)
        found.append(SupportReport(name, i + 1, round(value, 4), disagrees))
    return found


def mirrored(image: Array, mask: Array) -> tuple[Array, Array]:
    """A copy of a support that is mirrored, darker and smaller, on a canvas of the same size."""
    height, width = mask.shape
    size = (max(1, round(width * SHRINK)), max(1, round(height * SHRINK)))
    borders = (0, height - size[1], 0, width - size[0])
    darker = (np.arange(256) * DARKEN).astype(np.uint8)
    small = cv2.resize(cv2.LUT(image, darker), size, interpolation=cv2.INTER_AREA)[:, ::-1]
    labels = resize_mask(mask, size)[:, ::-1]
    image = cv2.copyMakeBorder(small, *borders, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    return image, cv2.copyMakeBorder(labels, *borders, cv2.BORDER_CONSTANT, value=IGNORE)
