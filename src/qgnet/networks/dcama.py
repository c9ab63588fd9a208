"""DCAMA (Shi et al., ECCV 2022): dense cross-query-and-support attention weighted mask aggregation."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qgnet.networks.encoders import Encoder, Features
from qgnet.networks.few_shot import FewShotNetwork, Prediction
from qgnet.networks.layers import foreground_share, resize, size_of
from qgnet.networks.nested_tensors import has_shape

HEADS = 8
"""Of the attention (released ``model/DCAMA.py``, as are all other constants)."""
DROPOUT = 0.5
"""Of features with their positions, and of attention weights, in training."""
WIDTHS = (16, 64, 128)
KERNELS = ((5, 5, 3), (5, 3, 3), (3, 3, 3))
"""Of the three convolutions on the coarse masks at strides 8, 16 and 32."""
GROUPS = 4
"""Of each group normalisation."""
POSITIONS = 10_000.0
"""Longest wavelength of the positional encoding, over 2 pi."""
QUERIES_AT_ONCE = 1024
"""Query positions that attend at once: at 385 px and 5 shots 375 MiB of weights exist at a time, instead of 880."""


class DCAMAQuery(NamedTuple):
    """What DCAMA keeps of a query image.

    Attributes:
        queries: per block (B, C, h, w), projected for the attention.
        skips: the last block's feature (B, C, h, w) at stride 8 and at stride 4.
    """

    queries: list[Tensor]
    skips: list[Tensor]


class DCAMASupports(NamedTuple):
    """What DCAMA keeps of supports.

    Attributes:
        keys: per block (B, N, C), the positions of all shots, projected for the attention.
        masks: per level (B, N), the soft mask in [0, 1] at these positions.
        skips: as of the query; of several shots the maximum.
    """

    keys: list[Tensor]
    masks: list[Tensor]
    skips: list[Tensor]


class DCAMA(FewShotNetwork):
    """Each query position gathers the support's mask, weighted by attention, at each block of the last three stages.

    Keys are all positions of all shots, foreground and background. The masks that come out are mixed from coarse to
    fine, and with the last features at strides 8 and 4 of query and support.

    Args:
        encoder: not dilated, with its last four levels at the strides 4, 8, 16 and 32.

    Blocks of a level that have as many channels share their projections, as all of a ResNet's stage do. Over ResNet-50
    14,215,394 parameters are trained, over ResNet-101 14,222,194, as in the released code.

    Raises:
        ValueError: for another encoder, or one whose blocks' channels 8 heads cannot share.
    """

    supports_type = DCAMASupports

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        skipped, *levels = encoder.levels_at((4, 8, 16, 32))
        self.blocks = [encoder.blocks_of(level) for level in levels]
        self.attended = [name for of_level in self.blocks for name in of_level]
        last = [list(encoder.blocks_of(level).items())[-1] for level in (levels[0], skipped)]
        self.skipped = [name for name, _ in last]
        self.kinds = [f"{i}x{b.channels}" for i, of_level in enumerate(self.blocks) for b in of_level.values()]
        channels = {kind: int(kind.partition("x")[2]) for kind in self.kinds}
        self.attention = nn.ModuleDict({kind: Projections(number) for kind, number in channels.items()})
        self.dropout = nn.Dropout(DROPOUT)
        self.mixer = MaskMixer([len(of_level) for of_level in self.blocks], [block.channels for _, block in last])

    def shared_features(self, image: Tensor) -> Features:
        """The features of all blocks that are attended to, and of those that are skipped to."""
        return self.encoder(image, [*self.attended, *self.skipped])

    def encode_query(self, image: Tensor, shared: Features | None = None) -> DCAMAQuery:
        """See :class:`FewShotNetwork`."""
        features = shared or self.shared_features(image)
        queries = [
            projection.query(positions).transpose(1, 2).unflatten(2, size_of(features[name]))
            for name, projection, positions in self._with_positions(features)
        ]
        return DCAMAQuery(queries, [features[name] for name in self.skipped])

    def encode_support(self, image: Tensor, mask: Tensor, shared: Features | None = None) -> DCAMASupports:
        """See :class:`FewShotNetwork`."""
        features = shared or self.shared_features(image)
        mask = mask.to(image.device, non_blocking=True)
        keys = [projection.key(positions) for _, projection, positions in self._with_positions(features)]
        sizes = [size_of(features[next(iter(of_level))]) for of_level in self.blocks]
        masks = [foreground_share(mask, size).flatten(1) for size in sizes]
        return DCAMASupports(keys, masks, [features[name] for name in self.skipped])

    def _with_positions(self, features: Features) -> list[tuple[str, "Projections", Tensor]]:
        """Name, projections, and feature (B, h * w, C) with its positional encoding, of each attended block."""
        found: list[tuple[str, Projections, Tensor]] = []
        encodings: dict[str, Tensor] = {}
        for name, kind in zip(self.attended, self.kinds, strict=True):
            feature = features[name].flatten(2).transpose(1, 2)
            if kind not in encodings:
                encodings[kind] = positional_encoding(feature.shape[1], feature.shape[2], feature.device)
            projections = self.attention[kind]
            assert isinstance(projections, Projections)
            found.append((name, projections, self.dropout(feature + encodings[kind])))
        return found

    def stack_shots(self, shots: Sequence[DCAMASupports]) -> DCAMASupports:
        """The positions of all shots as one set; of the features that are skipped to the maximum."""
        keys = [torch.cat(of_block, dim=1) for of_block in zip(*(shot.keys for shot in shots), strict=True)]
        masks = [torch.cat(of_level, dim=1) for of_level in zip(*(shot.masks for shot in shots), strict=True)]
        skips = [torch.stack(of_block).amax(dim=0) for of_block in zip(*(shot.skips for shot in shots), strict=True)]
        return DCAMASupports(keys, masks, skips)

    def decode(
        self, query: DCAMAQuery, supports: DCAMASupports, size: tuple[int, int], with_levels: bool = True
    ) -> Prediction:
        """See :class:`FewShotNetwork`; there are no maps and no level logits."""
        blocks = iter(zip(query.queries, supports.keys, strict=True))
        coarse = []
        for of_level, mask in zip(self.blocks, supports.masks, strict=True):
            gathered = [gather_mask(*next(blocks), mask, DROPOUT if self.training else 0.0) for _ in of_level]
            coarse.append(torch.cat(gathered, dim=1))
        pairs = zip(query.skips, supports.skips, strict=True)
        skips = [torch.cat([mine, theirs.expand(len(mine), -1, -1, -1)], dim=1) for mine, theirs in pairs]
        return Prediction(resize(self.mixer(coarse, skips), size))

    def check_side(self, side: int, what: str) -> None:
        """See :class:`FewShotNetwork`."""
        self.encoder.check_side(side, what)

    def fits(self, supports: DCAMASupports) -> bool:
        """See :class:`FewShotNetwork`."""
        channels = [block.channels for of_level in self.blocks for block in of_level.values()]
        parts = (
            (supports.keys, [(1, None, number) for number in channels]),
            (supports.masks, [(1, None) for _ in self.blocks]),
            (supports.skips, [(1, number, None, None) for number in self.mixer.skipped_channels]),
        )
        alike = (len(found) == len(shapes) and all(map(has_shape, found, shapes)) for found, shapes in parts)
        return all(alike) and self._positions_fit(supports) and super().fits(supports)

    def _positions_fit(self, supports: DCAMASupports) -> bool:
        """Whether each block has a key for each position of its level's mask."""
        lengths = [m.shape[1] for m, of_level in zip(supports.masks, self.blocks, strict=True) for _ in of_level]
        return [keys.shape[1] for keys in supports.keys] == lengths


class Projections(nn.Module):
    """Of features of so many channels, for the attention; ValueError if the heads cannot share them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels % HEADS:
            raise ValueError(
                f"a block of the encoder has {channels} channels, which {HEADS} heads cannot share. Take another one."
            )
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)


def positional_encoding(length: int, channels: int, device: torch.device) -> Tensor:
    """(length, channels): sines at even channels and cosines at odd ones of positions 0, 1, …, row after row."""
    position = torch.arange(length, device=device)[:, None]
    frequency = torch.exp(torch.arange(0, channels, 2, device=device) * (-math.log(POSITIONS) / channels))
    return torch.stack([(position * frequency).sin(), (position * frequency).cos()], dim=2).flatten(1)


def gather_mask(query: Tensor, keys: Tensor, mask: Tensor, dropout: float = 0.0) -> Tensor:
    """The support's mask at each query position, weighted by attention; the mean over the heads.

    Args:
        query: (B, C, h, w).
        keys: (B or 1, N, C).
        mask: (B or 1, N) in [0, 1].
        dropout: of the weights.

    Returns:
        (B, 1, h, w) in [0, 1], without dropout.
    """
    batch = len(query)
    by_head = query.flatten(2).unflatten(1, (HEADS, -1)).transpose(2, 3)
    keys_by_head = keys.unflatten(2, (HEADS, -1)).transpose(1, 2).expand(batch, -1, -1, -1)
    values = mask[:, None, :, None].to(query.dtype).expand(batch, HEADS, -1, -1)
    parts = [
        F.scaled_dot_product_attention(part, keys_by_head, values, dropout_p=dropout).mean(dim=1)
        for part in by_head.split(QUERIES_AT_ONCE, dim=2)
    ]
    return torch.cat(parts, dim=1).transpose(1, 2).unflatten(2, size_of(query))


class MaskMixer(nn.Module):
    """From coarse masks at three levels to logits.

    Args:
        blocks: number of coarse masks at strides 8, 16 and 32.
        channels: of the features that are skipped to, at strides 8 and 4, of the query or the support alone.
    """

    def __init__(self, blocks: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        small, middle, last = WIDTHS
        self.skipped_channels = list(channels)
        self.squeeze = nn.ModuleList(
            conv_block(number, WIDTHS, kernels) for number, kernels in zip(blocks, KERNELS, strict=True)
        )
        self.mix = nn.ModuleList(conv_block(last, [last] * 3, [3] * 3) for _ in blocks[1:])
        self.mixers = nn.ModuleList(
            [
                nn.Sequential(conv3(last + 2 * sum(channels), last), nn.ReLU(), conv3(last, middle), nn.ReLU()),
                nn.Sequential(conv3(middle, middle), nn.ReLU(), conv3(middle, small), nn.ReLU()),
                nn.Sequential(conv3(small, small), nn.ReLU(), conv3(small, 2)),
            ]
        )

    def forward(self, coarse: Sequence[Tensor], skips: Sequence[Tensor]) -> Tensor:
        """Predict.

        Args:
            coarse: (B, blocks, h_l, w_l) per level, the finest first.
            skips: (B, 2C, h, w) of query and support side by side, at strides 8 and 4.

        Returns:
            Logits (B, 2, 4h, 4w), where (h, w) is the grid at stride 4.
        """
        fine, middle, coarsest = (squeeze(x) for squeeze, x in zip(self.squeeze, coarse, strict=True))
        mixed = self.mix[1](resize(coarsest, size_of(middle)) + middle)
        mixed = self.mix[0](resize(mixed, size_of(fine)) + fine)
        mixed = resize(torch.cat([mixed, skips[0]], dim=1), size_of(skips[1]))
        mixed = self.mixers[0](torch.cat([mixed, skips[1]], dim=1))
        mixed = self.mixers[1](twice_as_large(mixed))
        logits: Tensor = self.mixers[2](twice_as_large(mixed))
        return logits


def conv3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A size-keeping 3x3 convolution with bias."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def conv_block(in_channels: int, widths: Sequence[int], kernels: Sequence[int]) -> nn.Sequential:
    """Size-keeping convolutions, each with group normalisation and ReLU."""
    layers: list[nn.Module] = []
    for width, kernel in zip(widths, kernels, strict=True):
        conv = nn.Conv2d(in_channels, width, kernel, padding=kernel // 2)
        layers += [conv, nn.GroupNorm(GROUPS, width), nn.ReLU()]
        in_channels = width
    return nn.Sequential(*layers)


def twice_as_large(x: Tensor) -> Tensor:
    """Bilinear resizing of (B, C, h, w)."""
    height, width = size_of(x)
    return resize(x, (2 * height, 2 * width))
