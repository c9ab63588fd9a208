"""Join the ClassMaps of an image's squares."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.episodes.letterbox import Letterboxed, restore


class ClassMaps(NamedTuple):
    """The network's output for T squares and one class.

    Attributes:
        score_maps: (T, S, S) foreground logits minus background logits.
        maps: name → (T, h, w) in [0, 1], the network's region maps.
        evidence: (T, 2), see :mod:`qgnet.inference.presence`; None if there is no evidence.
    """

    score_maps: Tensor
    maps: dict[str, Tensor]
    evidence: Tensor | None


def blend(score_maps: Tensor, image: Letterboxed) -> Tensor:
    """Score maps (T, S, S) of an image's squares → (H, W); where tiles overlap, the nearer tile has more weight."""
    if len(image.windows) == 1:
        return restore(score_maps[0], image.windows[0].content_size, image.size)
    total, weights = torch.zeros(image.size), torch.zeros(image.size)
    for score_map, window in zip(score_maps, image.windows, strict=True):
        place = np.s_[window.top : window.top + window.height, window.left : window.left + window.width]
        weight = torch.outer(_tent(window.height), _tent(window.width))
        total[place] += weight * restore(score_map, window.content_size, (window.height, window.width))
        weights[place] += weight
    return total / weights


def _tent(length: int) -> Tensor:
    """Weights (length,) that fall from 1 in the middle to nearly 0 at the ends."""
    return 1 - torch.linspace(-1, 1, length + 2)[1:-1].abs()


BATCH_PIXELS = 2**23
"""Most pixels per batch of squares, unless a single square has more; eight squares of 1,024 px."""


def batch_limit(side: int, most: int) -> int:
    """Number of squares of this side, in pixels, per batch, 1 … `most`."""
    return max(1, min(most, BATCH_PIXELS // side**2))
