"""FEM, the feature enrichment module (as in PFENet): query, category and region maps, mixed at several scales."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qgnet.networks.layers import classifier, conv_relu, refine, resize


class EnrichmentOutput(NamedTuple):
    """What the FEM predicts.

    Attributes:
        logits: (B, 2, h, w) at the feature side.
        level_logits: one (B, 2, h_l, w_l) per pyramid level, for the auxiliary loss.
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
        self.mix = nn.ModuleList(conv_relu(2 * width + maps, width) for _ in levels)
        self.from_finer = nn.ModuleList(conv_relu(2 * width, width) for _ in levels[1:])
        self.refine = nn.ModuleList(refine(width) for _ in levels)
        self.level_classifiers = nn.ModuleList(classifier(width) for _ in levels)
        self.merge = conv_relu(len(levels) * width, width)
        self.refine_merged = refine(width)
        self.classifier = classifier(width)

    def forward(self, query: Tensor, category: Tensor, maps: Sequence[Tensor]) -> EnrichmentOutput:
        """Predict from query (B, width, h, w), category (B, width, 1, 1) and region maps (B, 1, h, w)."""
        full = (query.shape[-2], query.shape[-1])
        enriched: list[Tensor] = []
        level_logits = []
        for i, level in enumerate(self.levels):
            size = level_size(level, full)
            pooled = F.adaptive_avg_pool2d(query, size)
            resized = [resize(region_map, size) for region_map in maps]
            x = self.mix[i](torch.cat([pooled, category.expand(-1, -1, *size), *resized], dim=1))
            if i > 0:
                finer = resize(enriched[-1], size)
                x = x + self.from_finer[i - 1](torch.cat([x, finer], dim=1))
            x = x + self.refine[i](x)
            level_logits.append(self.level_classifiers[i](x))
            enriched.append(resize(x, full))
        merged = self.merge(torch.cat(enriched, dim=1))
        merged = merged + self.refine_merged(merged)
        return EnrichmentOutput(self.classifier(merged), level_logits)


def level_size(level: float, full: tuple[int, int]) -> tuple[int, int]:
    """Height and width of one pyramid level for a feature map of size ``full``."""
    if level > 1:
        return int(level), int(level)
    return max(1, int(full[0] * level)), max(1, int(full[1] * level))
