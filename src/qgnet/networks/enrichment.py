"""FEM, the feature enrichment module (as in PFENet): query, category and region maps, mixed at several scales."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qgnet.networks.layers import classifier, conv_relu, pool, refine, resize


class EnrichmentOutput(NamedTuple):
    """What the FEM predicts.

    Attributes:
        logits: (B, 2, h, w) at the feature side.
        level_logits: one (B, 2, h_l, w_l) per pyramid level, for the auxiliary loss; empty if not asked for.
    """

    logits: Tensor
    level_logits: list[Tensor]


class FeatureEnrichment(nn.Module):
    """Mixes the query feature with the category feature and both region maps at each level of a pyramid.

    Args:
        width: channels of the query and category features, and of everything inside.
        levels: one entry per pyramid level, first the finest. Above 1 it is a side in feature positions
            ([60, 30, 15, 8] for PASCAL at 473 px); at most 1 it is a ratio of the feature side
            ([1, 0.5, 0.25, 0.125] for COCO), rounded down.
        maps: number of region maps: guided and prior, or as many as an ablation leaves.
    """

    def __init__(self, width: int = 256, levels: Sequence[float] = (60, 30, 15, 8), maps: int = 2) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.width = width
        self.mix = nn.ModuleList(conv_relu(2 * width + maps, width) for _ in levels)
        self.from_finer = nn.ModuleList(conv_relu(2 * width, width) for _ in levels[1:])
        self.refine = nn.ModuleList(refine(width) for _ in levels)
        self.level_classifiers = nn.ModuleList(classifier(width) for _ in levels)
        self.merge = conv_relu(len(levels) * width, width)
        self.refine_merged = refine(width)
        self.classifier = classifier(width)

    def pyramid(self, query: Tensor) -> list[Tensor]:
        """What the mixing convolutions make of the query (B, width, h, w) alone: (B, width, h_l, w_l) per level.

        A 1x1 convolution of things side by side is the sum of the convolutions of each: the query's share is the same
        for all categories.
        """
        full = (query.shape[-2], query.shape[-1])
        pooled = [pool(query, level_size(level, full)) for level in self.levels]
        return [F.conv2d(x, self._weights(i)[0]) for i, x in enumerate(pooled)]

    def forward(
        self,
        pyramid: Sequence[Tensor],
        category: Tensor,
        maps: Sequence[Tensor],
        full: tuple[int, int],
        with_levels: bool = True,
    ) -> EnrichmentOutput:
        """Predict.

        Args:
            pyramid: of the query, by :meth:`pyramid`.
            category: (B, width, 1, 1).
            maps: region maps (B, 1, h, w).
            full: (h, w), the feature side.
            with_levels: whether the levels are classified, too.
        """
        enriched: list[Tensor] = []
        level_logits = []
        for i, query in enumerate(pyramid):
            size = (query.shape[-2], query.shape[-1])
            x = F.relu(query + self.category_and_maps(i, category, maps, size))
            if i > 0:
                finer = resize(enriched[-1], size)
                x = x + self.from_finer[i - 1](torch.cat([x, finer], dim=1))
            x = x + self.refine[i](x)
            if with_levels:
                level_logits.append(self.level_classifiers[i](x))
            enriched.append(resize(x, full))
        merged = self.merge(torch.cat(enriched, dim=1))
        merged = merged + self.refine_merged(merged)
        return EnrichmentOutput(self.classifier(merged), level_logits)

    def category_and_maps(self, i: int, category: Tensor, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """The other shares of a level's mixing convolution; the category's is one vector."""
        _, of_category, of_maps = self._weights(i)
        share = F.conv2d(category, of_category)
        if not maps:
            return share
        resized = [resize(region_map, size) for region_map in maps]
        return share + F.conv2d(torch.cat(resized, dim=1), of_maps)

    def _weights(self, i: int) -> tuple[Tensor, ...]:
        """Of a level's mixing convolution: what meets the query, the category and the region maps."""
        (weight,) = self.mix[i].parameters()
        return weight.split([self.width, self.width, weight.shape[1] - 2 * self.width], dim=1)


def level_size(level: float, full: tuple[int, int]) -> tuple[int, int]:
    """Height and width of one pyramid level for a feature map of size ``full``."""
    if level > 1:
        return int(level), int(level)
    return max(1, int(full[0] * level)), max(1, int(full[1] * level))
