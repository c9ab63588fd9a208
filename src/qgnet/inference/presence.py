"""Whether an image shows the class at all: what was found in it, compared with the supports' object."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from qgnet.common.errors import InputError
from qgnet.networks.few_shot import FewShotNetwork
from qgnet.networks.score_maps import SupportPositions


class Calibration(NamedTuple):
    """Turns evidence into a probability, for one encoder; fitted by ``benchmarks/presence.py``.

    Features of another scale tell other things apart, so it counts only where it was measured, see :meth:`mismatch`.

    Attributes:
        similarity: weight of the cosine between what was found and the supports' object, both from `centre`.
        strength: weight of the mean score map of what was found.
        shots: weight of the binary logarithm of the number of supports.
        offset: added.
        threshold: the one that serves best where there is but one support.
        centre: (C,) mean feature of images. What all of them have in common tells no class from another.
        support_similarity: weight of the similarity that several supports' objects have, found in each other: where it
            is high, what is found in an image that shows the class is similar, too.
        sides: image sizes, in pixels, at which it was measured to hold: of images with and without the class as
            many as at the first are kept and left empty, within 5 %. The default is that of files without them.
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
        """Why it does not hold for these settings of a Segmenter; empty where it does."""
        if tile:
            return "the score is calibrated for whole images, not for tiles"
        if side not in self.sides:
            return f"the score is calibrated at {', '.join(map(str, self.sides))} px, not at {side} px"
        return "the score is not calibrated in bfloat16" if bf16 and not self.bf16 else ""

    def probability(self, evidence: Tensor, shots: int, support_similarity: float) -> Tensor:
        """That images show the class: as likely as not at 0.5 where half of them do.

        Args:
            evidence: (T, 2) of :func:`evidence`.
            shots: number of supports.
            support_similarity: mean similarity among them by the same measure; 0 for a single one.

        Returns:
            (T,) in [0, 1].
        """
        weights = evidence.new_tensor([self.similarity, self.strength])
        of_shots = self.shots * torch.tensor(float(shots)).log2()
        of_class = of_shots + self.support_similarity * support_similarity + self.offset
        return (evidence @ weights + of_class).sigmoid()


def valid_positions(inside: Tensor, size: tuple[int, int]) -> Tensor:
    """(T, S, S) bool → (T, h * w), the positions that are not padding alone."""
    return F.adaptive_max_pool2d(inside.float()[:, None], size)[:, 0].flatten(1) > 0


def presence_evidence(
    net: FewShotNetwork,
    calibration: Calibration | None,
    query: Any,
    supports: Any,
    score_maps: Tensor,
    inside: Tensor,
) -> Tensor | None:
    """:func:`evidence` of what a network has encoded; None without a calibration, or where it compares nothing.

    Raises:
        InputError: if the calibration is of another network.
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
    """How similar what was found is to the supports' object, and how strong the answer is.

    Args:
        query: (T, C, h, w) features of length 1, as of `matching_feature`.
        supports: (1, …), the positions of all of them.
        score_maps: (T, S, S), above 0 where the object was found.
        inside: (T, S, S) bool, where the square is not padding.
        centre: (C,) mean feature of images.

    Returns:
        (T, 2): the cosine of the mean feature of what was found, or where that is nothing of the position that comes
        nearest to it, to the supports' mean, both from `centre`; and the mean score map there.
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
    """(B, C, N) features by (B, N) weights → (B, C)."""
    return (features * weights[:, None]).sum(dim=2) / weights.sum(dim=1, keepdim=True)
