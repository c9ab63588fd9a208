"""A head for few training data: it sees how the query resembles its supports, and little of the query itself.

A head that sees a query's features learns the base classes by heart. This one is given score maps, of several levels
and kinds, and corrects their sum: what it learns is how such maps go wrong, which is alike for classes that it never
saw. Only the finest levels, which have edges and no classes, come in as they are, late.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qgnet.networks.comparison import KINDS, compare, similarity
from qgnet.networks.correspondence import EPS, region_map
from qgnet.networks.encoders import Encoder, Features
from qgnet.networks.few_shot import FewShotNetwork, Prediction, to_logits
from qgnet.networks.layers import pool, resize, size_of
from qgnet.networks.qgnet import GUIDED
from qgnet.networks.score_maps import (
    SupportPositions,
    are_support_positions,
    join_shots,
    ridge_score_map,
    support_positions,
)

SCORED = ("ridge", "prototype", "nearest")
"""The score maps that the head starts from, of the matching levels together."""
GROUPS = 8
"""Of the normalisation."""


class ComparedImage(NamedTuple):
    """All that is kept of an image.

    Attributes:
        compared: (B, C, h, w) float32, the compared levels side by side, each of length 1.
        edges: the finest levels (B, C_l, h_l, w_l), the finest last.
    """

    compared: Tensor
    edges: list[Tensor]


def normalised_conv(in_channels: int, out_channels: int, dilation: int = 1) -> nn.Sequential:
    """A size-keeping 3x3 convolution without bias, and group normalisation."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False),
        nn.GroupNorm(GROUPS, out_channels),
    )


class Residual(nn.Module):
    """Two convolutions, the first dilated, added to what comes in."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.first = normalised_conv(width, width, dilation)
        self.second = normalised_conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w), twice."""
        return F.relu(x + self.second(F.relu(self.first(x))))


class EdgeLevel(nn.Module):
    """Brings what is known so far to a finer grid, and adds what the encoder sees there."""

    def __init__(self, channels: int, seen_channels: int, edge_width: int, width: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(seen_channels, edge_width, 1)
        self.mix = normalised_conv(channels + edge_width, width)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """(B, channels, h, w) and the encoder's level (B, seen_channels, h', w') → (B, width, h', w')."""
        finer = resize(x, size_of(seen))
        return F.relu(self.mix(torch.cat([finer, F.relu(self.reduce(seen))], dim=1)))


class Correction(nn.Module):
    """What is learnt: score maps and the query's finest levels → a score map at the finest of them.

    Args:
        maps: number of score maps.
        edges: channels of the edge levels, the finest last.
        width: channels of the residual blocks.
        dilations: of the residual blocks.
        edge_width: channels that each edge level is brought to.
        fine_width: channels at the edge levels.

    Raises:
        ValueError: if ``width`` or ``fine_width`` is no multiple of 8, the groups of the normalisation.
    """

    def __init__(
        self,
        maps: int,
        edges: Sequence[int],
        width: int = 48,
        dilations: Sequence[int] = (1, 2, 4, 2, 1),
        edge_width: int = 16,
        fine_width: int = 16,
    ) -> None:
        super().__init__()
        for name, channels in (("width", width), ("fine_width", fine_width)):
            if channels % GROUPS:
                raise ValueError(f"{name} is {channels}; expected a multiple of {GROUPS}.")
        self.stem = normalised_conv(maps, width)
        self.level = nn.Linear(2 * maps, width)
        self.blocks = nn.Sequential(*(Residual(width, dilation) for dilation in dilations))
        self.coarse = nn.Conv2d(width, 1, 1)
        before = [width, *[fine_width] * (len(edges) - 1)]
        self.edges = nn.ModuleList(
            EdgeLevel(channels, seen, edge_width, fine_width) for channels, seen in zip(before, edges, strict=True)
        )
        self.fine = nn.Conv2d(fine_width, 1, 3, padding=1)
        self.weights = nn.Parameter(torch.ones(len(SCORED)))

    def forward(self, maps: Tensor, scored: Tensor, edges: Sequence[Tensor]) -> Tensor:
        """(B, maps, h, w), of which `SCORED` (B, 3, h, w) are added up, and edge levels → (B, 1, h', w')."""
        # how high the score maps are, which the normalisation removes
        heights = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)
        x = self.blocks(F.relu(self.stem(maps) + self.level(heights)[:, :, None, None]))
        score = self.coarse(x) + (self.weights.view(-1, 1, 1) * scored).sum(dim=1, keepdim=True)
        for level, seen in zip(self.edges, edges, strict=True):
            x = level(x, seen)
        return self.fine(x) + resize(score, size_of(x))


class ScoreMapHead(FewShotNetwork):
    """What :class:`ScoreMapNetwork` does once the images are encoded, by whatever encodes them.

    Attributes:
        channels: of each compared level, the matching levels first.
        matching: number of matching levels, which are compared together, too.
        correction: called as :class:`Correction` is.
    """

    supports_type = SupportPositions
    map_names = (GUIDED,)
    score_map_names = SCORED
    channels: list[int]
    matching: int
    correction: nn.Module

    def stack_shots(self, shots: Sequence[SupportPositions]) -> SupportPositions:
        """The positions of all shots as one set."""
        return join_shots(shots)

    def decode(
        self, query: ComparedImage, supports: SupportPositions, size: tuple[int, int], with_levels: bool = True
    ) -> Prediction:
        """See :class:`FewShotNetwork`. ``score_maps`` holds those that the correction is added to.

        The one map, ``guided``, is the similarity to the nearest foreground position, min-max normalised.
        """
        with torch.no_grad(), torch.autocast(query.compared.device.type, enabled=False):
            matching, positions = self.presence_features(query, supports)
            maps, scored = self.score_maps(query, supports, matching, positions)
            guided = region_map(matching, positions.features * (positions.foreground > 0)[:, None])
        score = self.correction(maps, torch.cat(list(scored.values()), dim=1), query.edges)
        return Prediction(resize(to_logits(score), size), {GUIDED: guided}, score_maps=scored)

    def score_maps(
        self, query: ComparedImage, supports: SupportPositions, matching: Tensor, positions: SupportPositions
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """All score maps (B, M, h, w): of each level, of the matching levels together, and ridge; and the `SCORED`.

        ``matching`` and ``positions`` are what :meth:`presence_features` gives.
        """
        queries, keys = (x.split(self.channels, dim=1) for x in (query.compared, supports.features))
        cosines = [similarity(q, k) for q, k in zip(queries, keys, strict=True)]
        maps = [compare(q, supports._replace(features=k), c) for q, k, c in zip(queries, keys, cosines, strict=True)]
        joint = compare(matching, positions, torch.stack(cosines[: self.matching]).mean(dim=0))
        ridge = ridge_score_map(matching, positions)
        scored = {"ridge": ridge} | {name: joint[:, KINDS.index(name)][:, None] for name in SCORED[1:]}
        return torch.cat([*maps, joint, ridge], dim=1), scored

    def presence_features(self, query: ComparedImage, supports: SupportPositions) -> tuple[Tensor, SupportPositions]:
        """The matching levels side by side, of length 1."""
        channels, scale = sum(self.channels[: self.matching]), self.matching**-0.5
        features = supports.features[:, :channels] * scale
        return query.compared[:, :channels] * scale, supports._replace(features=features)


class ScoreMapNetwork(ScoreMapHead):
    """Segments by score maps that a small convolutional network corrects.

    Args:
        encoder: any, frozen. Its matching levels and the last three are compared; the first two show edges.
        settings: of the :class:`Correction`, with its errors.
    """

    def __init__(self, encoder: Encoder, **settings: Any) -> None:
        super().__init__()
        self.encoder = encoder
        names = list(encoder.levels)
        others = [level for level in names[-3:] if level not in encoder.matching_levels]
        self.levels = [*encoder.matching_levels, *others]
        self.edge_levels = names[1::-1]
        self.matching = len(encoder.matching_levels)
        self.channels = [encoder.levels[level].channels for level in self.levels]
        maps = len(KINDS) * (len(self.levels) + 1) + 1
        self.correction = Correction(maps, [encoder.levels[level].channels for level in self.edge_levels], **settings)

    def check_side(self, side: int, what: str) -> None:
        """See :class:`FewShotNetwork`."""
        self.encoder.check_side(side, what)

    @property
    def free_stride(self) -> int:
        """See :class:`FewShotNetwork`: score maps mean the same at any resolution."""
        return self.encoder.levels[self.encoder.matching_levels[-1]].stride

    def fits(self, supports: SupportPositions) -> bool:
        """See :class:`FewShotNetwork`."""
        return are_support_positions(supports, sum(self.channels)) and super().fits(supports)

    def shared_features(self, image: Tensor) -> Features:
        """All levels that are compared or show edges."""
        return self.encoder(image, list(dict.fromkeys([*self.levels, *self.edge_levels])))

    def encode_query(self, image: Tensor, shared: Features | None = None) -> ComparedImage:
        """See :class:`FewShotNetwork`."""
        features = shared or self.shared_features(image)
        return ComparedImage(self.compared(features), [features[level] for level in self.edge_levels])

    def encode_support(self, image: Tensor, mask: Tensor, shared: Features | None = None) -> SupportPositions:
        """The positions of the supports and what they show."""
        return support_positions(self.compared(shared or self.shared_features(image)), mask)

    def compared(self, features: Features) -> Tensor:
        """(B, C, h, w) float32: the compared levels side by side, each of length 1, on the matching levels' grid."""
        size = size_of(features[self.encoder.matching_levels[-1]])
        levels = [brought_to(features[level].float(), size) for level in self.levels]
        return torch.cat([F.normalize(level, dim=1, eps=EPS) for level in levels], dim=1)


def brought_to(feature: Tensor, size: tuple[int, int]) -> Tensor:
    """A feature (B, C, h, w) on another grid: a finer one is averaged, a coarser one resized."""
    return pool(feature, size) if feature.shape[-1] > size[1] else resize(feature, size)
