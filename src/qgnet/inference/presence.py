"""Whether an image shows the class: compares the predicted region with the supports' object."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from qgnet.common.errors import InputError
from qgnet.networks.few_shot import FewShotNetwork
from qgnet.networks.score_maps import SupportPositions


class Calibration(NamedTuple):
    """Turns evidence into a probability, for one encoder; fitted by ``benchmarks/presence.py``.

    Features of another scale separate other things, so it is valid only where it was measured; see :meth:`mismatch`.

    Attributes:
        similarity: weight of the cosine between the predicted region and the supports' object, both minus `centre`.
        strength: weight of the mean score map in the predicted region.
        shots: weight of the binary logarithm of the number of supports.
        offset: constant term.
        threshold: best mask threshold for a single support, in (0, 1).
        centre: (C,) mean feature of images. It is subtracted because it is common to all classes.
        support_similarity: weight of the similarity of several supports' objects, each segmented by the others. If it
            is high, the similarity in images of the class is high, too.
        sides: image sizes, in pixels, at which it was measured to hold: the shares of images with and without the
            class that get a mask differ by at most 5 % from those at the first size. The default is for older files.
        bf16: whether it was measured to hold in bfloat16, too.
    """

    similarity: float
    strength: float
    shots: float
    offset: float
    threshold: float
    centre: tuple[float, ...]
    support_similarity: float = 0.0
    sides: tuple[int, ...] = (321,)
    bf16: bool = False

    def mismatch(self, side: int, tile: bool, bf16: bool) -> str:
        """The reason why it does not hold for these settings of a Segmenter; empty if it holds."""
        if tile:
            return "the score is calibrated for whole images, not for tiles"
        if side not in self.sides:
            return f"the score is calibrated at {', '.join(map(str, self.sides))} px, not at {side} px"
        return "the score is not calibrated in bfloat16" if bf16 and not self.bf16 else ""

    def probability(self, evidence: Tensor, shots: int, support_similarity: float) -> Tensor:
        """Probability that images show the class, if half of all images do.

        Args:
            evidence: (T, 2), result of :func:`evidence`.
            shots: number of supports.
            support_similarity: mean similarity among the supports by the same measure; 0 for a single support.

        Returns:
            (T,) in [0, 1].
        """
        weights = evidence.new_tensor([self.similarity, self.strength])
        of_shots = self.shots * torch.tensor(float(shots)).log2()
        of_class = of_shots + self.support_similarity * support_similarity + self.offset
        return (evidence @ weights + of_class).sigmoid()


def valid_positions(inside: Tensor, size: tuple[int, int]) -> Tensor:
    """(T, S, S) bool → (T, h * w) bool, False for positions with only padding."""
    return F.adaptive_max_pool2d(inside.float()[:, None], size)[:, 0].flatten(1) > 0


def presence_evidence(
    net: FewShotNetwork,
    calibration: Calibration | None,
    query: Any,
    supports: Any,
    score_maps: Tensor,
    inside: Tensor,
) -> Tensor | None:
    """:func:`evidence` from the encoded query and supports; None without a calibration or without compared features.

    Raises:
        InputError: if the calibration belongs to another network.
    """
    compared = net.presence_features(query, supports)
    if calibration is None or compared is None:
        return None
    centre = score_maps.new_tensor(calibration.centre, dtype=torch.float32)
    if len(centre) != compared[0].shape[1]:
        raise InputError(
            f"The calibration is of another network: its centre has {len(centre)} values, and there are "
            f"{compared[0].shape[1]} features. Restore it, or make it again."
        )
    return evidence(*compared, score_maps, inside.to(score_maps.device), centre)


def evidence(query: Tensor, supports: SupportPositions, score_maps: Tensor, inside: Tensor, centre: Tensor) -> Tensor:
    """The similarity of the predicted region to the supports' object, and the strength of the prediction.

    Args:
        query: (T, C, h, w) features of length 1, as from `matching_feature`.
        supports: (1, …), the positions of all supports.
        score_maps: (T, S, S), above 0 inside the predicted region.
        inside: (T, S, S) bool, False for padding.
        centre: (C,) mean feature of images.

    Returns:
        (T, 2): the cosine between the mean features of the predicted region and of the supports' object, both minus
        `centre`; and the mean score map in the region. An empty region is replaced by the position with the highest
        score.
    """
    size = (query.shape[-2], query.shape[-1])
    prototype = mean_feature(supports.features, supports.foreground) - centre
    coarse = F.interpolate(score_maps.float()[:, None], size, mode="bilinear", align_corners=True)[:, 0].flatten(1)
    coarse = coarse.masked_fill(~valid_positions(inside, size), -torch.inf)
    found = (coarse > 0) | (coarse == coarse.amax(dim=1, keepdim=True))
    mean = mean_feature(query.float().flatten(2), found * coarse.sigmoid()) - centre
    strength = torch.where(found, coarse, 0.0).sum(dim=1) / found.sum(dim=1)
    return torch.stack([F.cosine_similarity(mean, prototype), strength], dim=1)


def mean_feature(features: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of features (B, C, N) by weights (B, N) → (B, C)."""
    return (features * weights[:, None]).sum(dim=2) / weights.sum(dim=1, keepdim=True)
