"""HSNet's head: a pyramid of 4D correlations, squeezed along the support, mixed and decoded (Min et al., ICCV 2021).

A 4D tensor here is (B, C, h, w, h', w'): channels C over each query position (h, w) and each support position (h', w').
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qgnet.networks.layers import resize, size_of

WIDTHS = (16, 64, 128)
"""Channels of a squeezing block's three convolutions (paper, supplement; released ``model/learner.py``)."""
KERNELS_AND_STRIDES = (((5, 5, 3), (4, 4, 2)), ((5, 3, 3), (4, 2, 2)), ((3, 3, 3), (2, 2, 2)))
"""Of the squeezing block's convolutions at strides 8, 16 and 32; the strides are along the support alone."""
GROUPS = 4
"""Of each group normalisation."""


class CentrePivotConv4d(nn.Module):
    """A 4D convolution whose kernel is zero but at two centres (paper, section "center-pivot 4D convolution").

    A 4D kernel has an offset of the query position and one of the support position. Here one of the two offsets is 0,
    so that the convolution is the sum of two of 2D: over the query at each support position, and over the support at
    each query position.

    Args:
        in_channels: of the 4D tensor.
        out_channels: of the result.
        kernel_size: along all four axes, odd; borders are padded with zeros.
        stride: along the support's two axes.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        padding = kernel_size // 2
        self.over_query = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding)
        self.over_support = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w, h', w') → the same with other channels, h' and w' divided by the stride and rounded up."""
        kept = x[..., :: self.stride, :: self.stride]
        return over_query(self.over_query, kept) + over_support(self.over_support, x)


def over_query(net: nn.Module, x: Tensor) -> Tensor:
    """A 2D layer over the query positions (h, w) of each support position."""
    batch, _, _, _, height, width = x.shape
    flat = net(x.permute(0, 4, 5, 1, 2, 3).flatten(0, 2))
    return flat.unflatten(0, (batch, height, width)).permute(0, 3, 4, 5, 1, 2)


def over_support(net: nn.Module, x: Tensor) -> Tensor:
    """A 2D layer over the support positions (h', w') of each query position."""
    batch, _, height, width, _, _ = x.shape
    flat = net(x.permute(0, 2, 3, 1, 4, 5).flatten(0, 2))
    return flat.unflatten(0, (batch, height, width)).permute(0, 3, 1, 2, 4, 5)


class Resize(nn.Module):
    """Bilinear resizing of (B, C, h, w) to a size, as a layer."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Resize."""
        return resize(x, self.size)


def block_4d(in_channels: int, widths: Sequence[int], kernels: Sequence[int], strides: Sequence[int]) -> nn.Sequential:
    """Centre-pivot convolutions, each with group normalisation and ReLU."""
    layers: list[nn.Module] = []
    for width, kernel, stride in zip(widths, kernels, strides, strict=True):
        layers += [CentrePivotConv4d(in_channels, width, kernel, stride), nn.GroupNorm(GROUPS, width), nn.ReLU()]
        in_channels = width
    return nn.Sequential(*layers)


class HypercorrelationSqueeze(nn.Module):
    """From correlations at three levels to logits.

    Args:
        blocks: number of correlations at strides 8, 16 and 32.

    The released ``HPNLearner`` has as many parameters: 2,573,794 over ResNet-50 (blocks 4, 6 and 3), 2,587,394 over
    ResNet-101.
    """

    def __init__(self, blocks: Sequence[int]) -> None:
        super().__init__()
        last = WIDTHS[-1]
        self.squeeze = nn.ModuleList(
            block_4d(number, WIDTHS, *shape) for number, shape in zip(blocks, KERNELS_AND_STRIDES, strict=True)
        )
        self.mix = nn.ModuleList(block_4d(last, [last] * 3, [3] * 3, [1] * 3) for _ in blocks[1:])
        self.decode_coarse = nn.Sequential(
            nn.Conv2d(last, last, 3, padding=1), nn.ReLU(), nn.Conv2d(last, WIDTHS[1], 3, padding=1), nn.ReLU()
        )
        self.decode_fine = nn.Sequential(
            nn.Conv2d(WIDTHS[1], WIDTHS[1], 3, padding=1), nn.ReLU(), nn.Conv2d(WIDTHS[1], 2, 3, padding=1)
        )

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Predict.

        Args:
            pyramid: correlations (B, C_l, h_l, w_l, h'_l, w'_l) in [0, 1], the finest level first.

        Returns:
            Logits (B, 2, 2h, 2w), where (h, w) is the finest level's grid.
        """
        fine, middle, coarse = (squeeze(x) for squeeze, x in zip(self.squeeze, pyramid, strict=True))
        mixed = self.mix[1](over_query(Resize(grid_of(middle)), coarse) + middle)
        mixed = self.mix[0](over_query(Resize(grid_of(fine)), mixed) + fine)
        height, width = grid_of(fine)
        decoded = self.decode_coarse(mixed.mean(dim=(4, 5)))
        logits: Tensor = self.decode_fine(resize(decoded, (2 * height, 2 * width)))
        return logits


def grid_of(x: Tensor) -> tuple[int, int]:
    """The query's grid of a 4D tensor."""
    return int(x.shape[2]), int(x.shape[3])


def hypercorrelation(query: Sequence[Tensor], support: Sequence[Tensor]) -> Tensor:
    """Cosines of all query with all support positions, below 0 cut off, of each block of a level.

    Args:
        query: (B, C, h, w) of length 1 each, in the order of the blocks.
        support: (B or 1, C, h', w') of length 1, zero outside the foreground.

    Returns:
        (B, blocks, h, w, h', w') float32, computed so even under autocast.
    """
    with torch.autocast(query[0].device.type, enabled=False):
        pairs = zip(query, support, strict=True)
        cosines = [q.flatten(2).transpose(1, 2) @ s.flatten(2) for q, s in pairs]
    grids = (*size_of(query[0]), *size_of(support[0]))
    return torch.stack(cosines, dim=1).clamp(min=0).unflatten(3, grids[2:]).unflatten(2, grids[:2])
