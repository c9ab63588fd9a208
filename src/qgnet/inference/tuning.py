"""Fit a class to its supports: scales, threshold and refinement; find supports that disagree."""

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
"""Least gain in IoU to prefer a threshold to one nearer to 0.5; the best of 0 … 0.2 at 5 shots on VOC."""
MIN_GAIN_SINGLE = 0.2
"""The same for a single support. Its mirrored copy is more similar to it than any other image, so only a large gain
counts; the best of 0.01 … 0.4 on VOC."""
OUTLIER_RATIO = 0.5
"""A support disagrees if its IoU is below this share of the median IoU of the others."""
SHRINK = 0.8
DARKEN = 0.85
"""Size and brightness of the mirrored copy on which a single support is tested."""


class SupportReport(NamedTuple):
    """How well a support agrees with the others of its class.

    Attributes:
        class_name: name of its class.
        number: number of the support within the class, from 1.
        iou: IoU of its mask and the prediction by the other supports, in [0, 1]; for a single support, the IoU in its
            mirrored copy.
        disagrees: whether its IoU is much lower than that of the others, as if it showed something else.
    """

    class_name: str
    number: int
    iou: float
    disagrees: bool


class Trial(NamedTuple):
    """A support segmented by the others; for a single support, its mirrored copy segmented by the support.

    Attributes:
        score_maps: (H, W) float32 for each scale, the coarse one first.
        guide: (h, w, 3) uint8, see `PreparedImage`.
        mask: (H, W) uint8 in {0, 1, 255}, the true mask.
    """

    score_maps: list[Tensor]
    guide: Array
    mask: Tensor


class Choice(NamedTuple):
    """Settings for segmenting a class.

    Attributes:
        threshold: probability above which a pixel belongs to the class.
        coarse_weight: weight of the coarse score map, in [0, 1]; the rest is the fine one's. 1 for a single scale.
        refinement: name of a refiner.
    """

    threshold: float = 0.5
    coarse_weight: float = 1.0
    refinement: str = "none"


class FittedClass(NamedTuple):
    """A fitted class.

    Attributes:
        name: name of the class.
        encoded: its K encoded supports, stacked for one query, for each scale.
        choice: settings for segmenting it.
        supports: a report for each support.
        support_similarity: similarity of the supports' objects, each segmented by the others, see `Calibration`; 0 for
            a single support.
    """

    name: str
    encoded: list[Any]
    choice: Choice
    supports: list[SupportReport]
    support_similarity: float = 0.0

    @property
    def threshold(self) -> float:
        """Probability above which a pixel belongs to the class."""
        return self.choice.threshold

    @property
    def expected_iou(self) -> float:
        """Mean IoU of supports segmented by each other, in [0, 1]; of a single support in its mirrored copy."""
        return sum(report.iou for report in self.supports) / len(self.supports)


def join_scales(score_maps: Sequence[Tensor], coarse_weight: float) -> Tensor:
    """Score maps (H, W) of one or two scales, the coarse one first → one score map (H, W)."""
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
    """Choose the settings that segment the supports best.

    Args:
        trials: trials of all supports of a class.
        coarse_weights: weights to choose from. The first is taken unless another is clearly better.
        refiners: name → refiner, to choose from in the same way.
        threshold: see `Choice`; None chooses the threshold, too.
        alone: see `choose_threshold`.

    Returns:
        The choice, and the IoU of each support with it.
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
    """Choose the best threshold.

    Args:
        probabilities: (H, W) in [0, 1], for N images.
        masks: (H, W) in {0, 1, 255}, for the same images.
        alone: expected best threshold of a single support; None is 0.5.
    """
    expected, min_gain = (alone or HALF, MIN_GAIN_SINGLE) if len(masks) == 1 else (HALF, MIN_GAIN)
    scores = {t: [iou(p > t, mask) for p, mask in zip(probabilities, masks, strict=True)] for t in THRESHOLDS}
    best = max(sum(each) for each in scores.values())
    good = [t for t, each in scores.items() if (best - sum(each)) / len(masks) <= min_gain]
    return min(good, key=lambda t: abs(t - expected))


def iou(prediction: Tensor, mask: Tensor) -> float:
    """Foreground IoU of a prediction (H, W) bool and a mask (H, W) in {0, 1, 255}; 1 if both are empty."""
    intersection, union = intersection_and_union(prediction.to(torch.uint8), mask)
    return float(intersection[1] / union[1]) if union[1] else 1.0


def support_reports(name: str, ious: Sequence[float]) -> list[SupportReport]:
    """Reports of a class's supports. With two supports none disagrees, as it is unclear which one is wrong."""
    found = []
    for i, value in enumerate(ious):
        others = [*ious[:i], *ious[i + 1 :]]
        disagrees = len(others) > 1 and value < OUTLIER_RATIO * median(others)
        found.append(SupportReport(name, i + 1, round(value, 4), disagrees))
    return found


def mirrored(image: Array, mask: Array) -> tuple[Array, Array]:
    """A mirrored, darker and smaller copy of a support on a canvas of the same size."""
    height, width = mask.shape
    size = (max(1, round(width * SHRINK)), max(1, round(height * SHRINK)))
    borders = (0, height - size[1], 0, width - size[0])
    darker = (np.arange(256) * DARKEN).astype(np.uint8)
    small = cv2.resize(cv2.LUT(image, darker), size, interpolation=cv2.INTER_AREA)[:, ::-1]
    labels = resize_mask(mask, size)[:, ::-1]
    image = cv2.copyMakeBorder(small, *borders, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    return image, cv2.copyMakeBorder(labels, *borders, cv2.BORDER_CONSTANT, value=IGNORE)
