"""The positions of a support that its object covers: the keys that a query is compared with."""

import torch
from torch import Tensor

from qgnet.networks.layers import resize_mask


def foreground_at(mask: Tensor, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Masks (B, H, W) in {0, 1, 255} → the soft masks (B, 1, h, w) of their foreground."""
    return resize_mask((mask == 1).to(dtype).unsqueeze(1), size)


def foreground_keys(masked: Tensor, foreground: Tensor, counted: Tensor) -> Tensor:
    """The positions of a masked feature that can be anything's nearest.

    Args:
        masked: (B, C, h, w), zero outside the foreground.
        foreground: (B, 1, h, w), above 0 at the foreground.
        counted: the same, wherever it lies: if that is the host, a GPU with the others is not waited for.

    Returns:
        (B, C, N): the foreground's positions and, where there are others, one of them, whose similarity is 0 as that of
        all of them. N is that of the largest foreground; the rest of a smaller one is filled up with zero positions.
    """
    inside = foreground.flatten(1) > 0
    most = min(inside.shape[1], int((counted > 0).flatten(1).sum(dim=1).max()) + 1)
    order = inside.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    return masked.flatten(2).gather(2, order[:, None].expand(-1, masked.shape[1], -1))
