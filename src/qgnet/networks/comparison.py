"""How query positions resemble labelled support positions: score maps of several kinds from one feature level."""

import torch
from torch import Tensor

from qgnet.networks.layers import size_of
from qgnet.networks.score_maps import COSINE_SCALE, SupportPositions, prototype_score_map, surest_positions

NEIGHBOURS = 5
"""Nearest support positions that are averaged, as one alone may be an accident."""
KINDS = ("nearest foreground", "nearest", "five nearest", "prototype")
"""What :func:`compare` gives: one cosine, and three differences of foreground and background."""


def similarity(query: Tensor, keys: Tensor) -> Tensor:
    """Features (B, C, h, w) and (B, C, N), of length 1 → cosines (B, h * w, N)."""
    return query.flatten(2).transpose(1, 2) @ keys


def compare(query: Tensor, supports: SupportPositions, cosines: Tensor) -> Tensor:
    """Score maps of one level.

    Args:
        query: (B, C, h, w) float32 features of length 1.
        supports: of all shots, N positions.
        cosines: (B, h * w, N) of both, by :func:`similarity`.

    Returns:
        (B, 4, h, w) float32, the `KINDS`.
    """
    (first, several), (first_other, several_other) = (nearest(cosines, inside) for inside in surest_positions(supports))
    differences = [COSINE_SCALE * (first - first_other), COSINE_SCALE * (several - several_other)]
    of_neighbours = torch.stack([first, *differences], dim=1).unflatten(2, size_of(query))
    return torch.cat([of_neighbours, prototype_score_map(query, supports)], dim=1)


def nearest(cosines: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines (B, P, N) and which positions (B, N) count → the best (B, P), and the mean of the best `NEIGHBOURS`.

    Of fewer positions the best one stands for those that are missing; of none both are -1.
    """
    counted = cosines.masked_fill(~inside[:, None], -1.0)
    best = counted.topk(min(NEIGHBOURS, cosines.shape[2]), dim=2).values
    there = inside.sum(dim=1)[:, None, None] > torch.arange(best.shape[2], device=best.device)
    first = best[:, :, :1]
    return first.squeeze(2), torch.where(there, best, first).mean(dim=2)
