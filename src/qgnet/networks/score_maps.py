"""Support matching without training: is a query position more like the support's foreground or its background?

Each function gives a *score map*: signed, above 0 where foreground is the better answer. Nothing is
normalised per image, so that a map can be below 0 everywhere to mean "nothing here", which the paper's min-max
normalised guided map cannot. All K shots are taken together: their positions are one set.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from qgnet.networks.correspondence import EPS, KEYS_AT_ONCE
from qgnet.networks.encoders import Encoder, Features
from qgnet.networks.layers import resize, size_of
from qgnet.networks.nested_tensors import has_shape

LEAST_SHARE = 0.5
"""A position belongs to what covers at least this share of it."""
RIDGE = 2.0
"""Strength of the ridge regression against the features' mean variance; of 0.1 … 50 the best at 5 shots on VOC."""
COSINE_SCALE = 5.0
"""Brings differences of cosines, which are small, to the range of the ridge regression's output, about -1 … 1."""


class SupportPositions(NamedTuple):
    """The positions of support images with what they show.

    Attributes:
        features: (B, C, N) float32 of length 1.
        foreground: (B, N) float32 in [0, 1], the share of a position that the object covers.
        background: (B, N), the same of what is neither object nor ignored.
    """

    features: Tensor
    foreground: Tensor
    background: Tensor


def matching_feature(encoder: Encoder, features: Features) -> Tensor:
    """The encoder's matching levels side by side, each of length 1: (B, C, h, w) float32 of length 1.

    Side by side the last two tell classes apart better than either alone, and neither drowns the other. They have the
    grid of the last of them, which is finer where the encoder is not dilated.
    """
    levels = [encoder.high(features) if x == encoder.high_level else features[x] for x in encoder.matching_levels]
    parts = [F.normalize(resize(level.float(), size_of(levels[-1])), dim=1, eps=EPS) for level in levels]
    return torch.cat(parts, dim=1) / len(parts) ** 0.5


def support_positions(feature: Tensor, mask: Tensor) -> SupportPositions:
    """The labelled positions of support images: (B, C, h, w) features and masks (B, H, W) in {0, 1, 255}.

    Those that are ignored altogether, e.g. of the padding, are left out. N is that of the image with most others; what
    another has fewer is filled up with its ignored ones, which count for nothing. It is counted where the masks lie: if
    that is the host, a GPU with the features is not waited for.
    """
    size, on_device = size_of(feature), mask.to(feature.device, non_blocking=True)
    shares = label_shares(on_device, size)
    counted = shares if on_device is mask else label_shares(mask, size)
    most = max(1, int((counted[0] + counted[1] > 0).sum(dim=1).max()))
    labelled = (shares[0] + shares[1] > 0).to(torch.uint8)
    order = labelled.argsort(dim=1, descending=True, stable=True)[:, :most]
    features = feature.flatten(2).gather(2, order[:, None].expand(-1, feature.shape[1], -1))
    return SupportPositions(features, *(share.gather(1, order) for share in shares))


def label_shares(mask: Tensor, size: tuple[int, int]) -> list[Tensor]:
    """Masks (B, H, W) → the shares of a feature's positions that are foreground and background, (B, h * w) each."""
    return [F.adaptive_avg_pool2d((mask == label).float(), size).flatten(1) for label in (1, 0)]


def are_support_positions(value: Any, channels: int) -> bool:
    """Whether something is the :class:`SupportPositions` of one episode, with features of so many channels."""
    if not (isinstance(value, SupportPositions) and has_shape(value.features, (1, channels, None))):
        return False
    return all(has_shape(cover, (1, value.features.shape[2])) for cover in value[1:])


def join_shots(shots: Sequence[SupportPositions]) -> SupportPositions:
    """K times (B, C, N_k) → one set of all positions."""
    return SupportPositions(*(torch.cat(parts, dim=-1) for parts in zip(*shots, strict=True)))


def nearest_score_map(query: Tensor, support: SupportPositions) -> Tensor:
    """Cosine to the most similar foreground position minus that to the most similar background position.

    Args:
        query: (B, C, h, w) features of length 1.
        support: of all shots.

    Returns:
        (B, 1, h, w) float32, times `COSINE_SCALE`.
    """
    unit_query = query.flatten(2)
    nearest = [_nearest(unit_query, support.features, inside) for inside in surest_positions(support)]
    return _as_map(COSINE_SCALE * (nearest[0] - nearest[1]), query)


def prototype_score_map(query: Tensor, support: SupportPositions) -> Tensor:
    """Cosine to the mean foreground feature minus that to the mean background feature."""
    prototypes = [support.features @ _shares(share)[:, :, None] for share in (support.foreground, support.background)]
    difference = F.normalize(prototypes[0], dim=1, eps=EPS) - F.normalize(prototypes[1], dim=1, eps=EPS)
    return _as_map(COSINE_SCALE * (difference * query.flatten(2)).sum(dim=1), query)


def ridge_score_map(query: Tensor, support: SupportPositions) -> Tensor:
    """Ridge regression from features to 1 foreground, -1 background, in closed form; shapes as `nearest_score_map`.

    Foreground and background count alike, however many positions each has: their shares are the weights.
    """
    foreground, background = _shares(support.foreground), _shares(support.background)
    weight, target = (foreground + background) / 2, (foreground - background) / 2
    centre = support.features @ weight[:, :, None]
    features = support.features - centre
    covariance = (features * weight[:, None]) @ features.transpose(1, 2)
    variance = covariance.diagonal(dim1=1, dim2=2).mean(dim=1) + EPS
    identity = torch.eye(covariance.shape[1], device=covariance.device)
    strength = (RIDGE * variance)[:, None, None] * identity
    direction = torch.linalg.solve_ex(covariance + strength, features @ target[:, :, None]).result  # never singular
    return _as_map(((query.flatten(2) - centre) * direction).sum(dim=1), query)


def sum_score_map(query: Tensor, support: SupportPositions) -> Tensor:
    """`ridge_score_map` plus `nearest_score_map`."""
    return ridge_score_map(query, support) + nearest_score_map(query, support)


SCORE_MAPS: dict[str, Callable[[Tensor, SupportPositions], Tensor]] = {
    "nearest": nearest_score_map,
    "prototype": prototype_score_map,
    "ridge": ridge_score_map,
    "sum": sum_score_map,
}


def compute_score_maps(query: Tensor, support: SupportPositions, names: Sequence[str]) -> dict[str, Tensor]:
    """The score maps of these names, in float32 even under autocast: cosines lie close together."""
    with torch.autocast(query.device.type, enabled=False):
        return {name: SCORE_MAPS[name](query, support) for name in names}


def _shares(cover: Tensor) -> Tensor:
    """(B, N) → weights that sum to 1; to 0 where nothing is covered."""
    return cover / cover.sum(dim=1, keepdim=True).clamp(min=EPS)


def surest_positions(support: SupportPositions) -> list[Tensor]:
    """(B, N) bool, the positions of foreground and of background: those that each covers by at least `LEAST_SHARE`.

    Where that is none, as of a small object, those that it covers most; they do not count for the other.
    """
    large, small = [], []
    for cover in (support.foreground, support.background):
        most = cover.amax(dim=1, keepdim=True)
        large.append(cover >= LEAST_SHARE)
        small.append((most < LEAST_SHARE) & (cover == most) & (cover > 0))
    return [(large[0] & ~small[1]) | small[0], (large[1] & ~small[0]) | small[1]]


def _nearest(query: Tensor, keys: Tensor, inside: Tensor) -> Tensor:
    """(B, N'): best cosine of query positions (B, C, N') to the keys (B, C, N) that are inside; -1 without any."""
    best = torch.full((query.shape[0], query.shape[2]), -1.0, device=query.device)
    for block, within in zip(keys.split(KEYS_AT_ONCE, dim=2), inside.split(KEYS_AT_ONCE, dim=1), strict=True):
        similarity = block.transpose(1, 2) @ query
        outside = torch.where(within, 0.0, -2.0)[:, :, None]
        best = torch.maximum(best, (similarity + outside).amax(dim=1))
    return best


def _as_map(values: Tensor, query: Tensor) -> Tensor:
    return values.view(len(query), 1, *query.shape[-2:])
