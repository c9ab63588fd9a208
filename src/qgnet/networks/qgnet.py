"""QGNet (Liu et al., arXiv 2108.05293): few-shot segmentation from a guided and a prior region map."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from qgnet.common.settings import check_side
from qgnet.networks.correspondence import region_map, unit, unit_region_map
from qgnet.networks.encoders import Encoder
from qgnet.networks.enrichment import FeatureEnrichment
from qgnet.networks.foreground import foreground_at, foreground_keys
from qgnet.networks.layers import reducer, resize, resize_mask, size_of
from qgnet.networks.matching import MARGINS, Positions, margins, matching_feature, of_all_shots, positions

Stages = dict[int, Tensor]
MARGIN_WEIGHT = 1.5
"""Of each margin at the beginning of a training, where ``add_margins``; about what a training leaves."""

AREA_EPS = 0.0005
"""Added to the mask's area in masked average pooling, as in the released code."""


class Query(NamedTuple):
    """All that QGNet keeps of a query image.

    Attributes:
        pyramid: per level of the FEM (B, width, h_l, w_l), what it makes of the reduced mid-level feature.
        high: (B, C, h, w) float32 of length 1, E's high-level feature.
        prior_map: (B, 1, h, w) in [0, 1], from self-correspondence; None without it.
        matching: (B, C', h, w) of length 1, what margins compare; None without them.
    """

    pyramid: list[Tensor]
    high: Tensor
    prior_map: Tensor | None
    matching: Tensor | None = None


class Support(NamedTuple):
    """All that QGNet keeps of a support image and its mask.

    Attributes:
        category: (B, width, 1, 1), the masked average of the reduced mid-level feature.
        keys: (B, C, N), the masked high-level feature's foreground positions, as :func:`foreground_keys` picks them.
        positions: what margins compare; None without them.
    """

    category: Tensor
    keys: Tensor
    positions: Positions | None = None

    def of_shots(self, shots: int) -> "list[Support]":
        """(B * K, …) → K times (B, …)."""
        return [
            Support(
                self.category[k::shots],
                self.keys[k::shots],
                self.positions and Positions(*(x[k::shots] for x in self.positions)),
            )
            for k in range(shots)
        ]


class Supports(NamedTuple):
    """What QGNet compares a query with: all K shots of an episode.

    Attributes:
        category: (B, width, 1, 1), their mean.
        keys: K times (B, C, N_k).
        positions: of all shots together; None without margins.
    """

    category: Tensor
    keys: list[Tensor]
    positions: Positions | None


def stack_shots(shots: Sequence[Support]) -> Supports:
    """K supports (B, …) of :meth:`QGNet.encode_support` → what :meth:`QGNet.decode` takes."""
    category = torch.stack([shot.category for shot in shots]).mean(dim=0)
    known = [shot.positions for shot in shots if shot.positions is not None]
    return Supports(category, [shot.keys for shot in shots], of_all_shots(known) if known else None)


class QGNetOutput(NamedTuple):
    """What QGNet predicts of a query.

    Attributes:
        logits: (B, 2, H, W), background and foreground, at the image's size.
        guided_map: (B, 1, h, w) in [0, 1], mean over the shots.
        prior_map: (B, 1, h, w) in [0, 1]; None without self-correspondence.
        level_logits: one (B, 2, h_l, w_l) per level of the FEM; empty where no loss is taken.
        margins: name → (B, 1, h, w), above 0 where support matching says foreground; empty without them.
    """

    logits: Tensor
    guided_map: Tensor
    prior_map: Tensor | None
    level_logits: list[Tensor]
    margins: dict[str, Tensor] = {}  # noqa: RUF012  (never written to)


class PriorBank(nn.Module):
    """Priors that are the same for every query: cluster centres of P's features over unlabelled images [paper].

    Args:
        size: number of priors, K.
        channels: of P's last stage.

    Zero until loaded; see ``qgnet prior-bank``.
    """

    vectors: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(size, channels))

    @property
    def high_channels(self) -> int:
        """Channels of a prior."""
        return self.vectors.shape[1]

    def forward(self) -> Tensor:
        """(K, channels, 3, 3): each prior as a region of nothing else, as the 3x3 reducer needs neighbours."""
        return self.vectors[:, :, None, None].expand(-1, -1, 3, 3)


class Answering(nn.Module):
    """What QGNet does once the images are encoded, by whatever encodes them.

    Attributes:
        margins: names of `MARGINS`, which the FEM sees as further region maps.
        margin_weights: of each margin that the FEM's answer is added to; None: the FEM's answer is the prediction.
        cross_correspondence: whether the FEM sees the guided map.
        enrichment: the FEM, called as :class:`FeatureEnrichment` is.
    """

    margins: tuple[str, ...]
    margin_weights: Tensor | None
    cross_correspondence: bool
    enrichment: nn.Module

    stack_shots = staticmethod(stack_shots)

    def decode(self, query: Query, supports: Supports, size: tuple[int, int], with_levels: bool = True) -> QGNetOutput:
        """The prediction at ``size`` for B encoded queries and their supports by :func:`stack_shots`, B or one for all.

        ``with_levels`` False leaves out the level logits, which only a loss needs.
        """
        guided_map = torch.stack([unit_region_map(query.high, keys) for keys in supports.keys]).mean(dim=0)
        maps = [guided_map] if self.cross_correspondence else []
        if query.prior_map is not None:
            maps.append(query.prior_map)
        found = self._margins(query, supports)
        full = (query.high.shape[-2], query.high.shape[-1])
        logits, level_logits = self.enrichment(
            query.pyramid, supports.category, [*maps, *found.values()], full, with_levels
        )
        if self.margin_weights is not None:
            weighted = zip(self.margin_weights, found.values(), strict=True)
            logits = logits + two_labels(sum(weight * resize(margin, full) for weight, margin in weighted))
        return QGNetOutput(resize(logits, size), guided_map, query.prior_map, level_logits, found)

    def _margins(self, query: Query, supports: Supports) -> dict[str, Tensor]:
        if query.matching is None or supports.positions is None:
            return {}
        return margins(query.matching, supports.positions, self.margins)


class QGNet(Answering):
    """Segments in a query image what a few masks show in support images.

    Args:
        encoder: E, dilated in the paper.
        priors: P, of the same stages: the priors are the positions of the query's own feature (the
            released code). Or a bank of them, fixed beforehand. None leaves self-correspondence out.
        width: channels of the head (256 in the paper).
        levels: sides or ratios of the FEM's pyramid, see :class:`FeatureEnrichment`.
        cross_correspondence: whether the FEM sees the guided map.
        margins: names of `MARGINS`, which the FEM sees as further region maps (not in the paper).
        add_margins: whether the FEM's answer is added to these margins, each with a learnt weight, instead of being the
            prediction (not in the paper).

    Raises:
        ValueError: for a margin that there is not, or is named twice, or ``add_margins`` without any.
    """

    enrichment: FeatureEnrichment

    def __init__(
        self,
        encoder: Encoder,
        priors: "Encoder | PriorBank | None",
        width: int = 256,
        levels: Sequence[float] = (60, 30, 15, 8),
        cross_correspondence: bool = True,
        margins: Sequence[str] = (),
        add_margins: bool = False,
    ) -> None:
        super().__init__()
        unknown = [name for name in margins if name not in MARGINS]
        if unknown:
            raise ValueError(f"margins names {unknown[0]!r}; expected some of {', '.join(MARGINS)}.")
        twice = [name for name in margins if list(margins).count(name) > 1]
        if twice:
            raise ValueError(f"margins names {twice[0]!r} twice; expected each of {', '.join(MARGINS)} once at most.")
        if add_margins and not margins:
            raise ValueError(f"add_margins needs margins to add to; expected some of {', '.join(MARGINS)}.")
        self.margins = tuple(margins)
        self.encoder = encoder
        self.prior_bank = priors if isinstance(priors, PriorBank) else None
        self.prior_encoder = None if isinstance(priors, PriorBank) else priors
        self.cross_correspondence = cross_correspondence
        self.reduce_query = reducer(encoder.mid_channels, width)
        self.reduce_support = reducer(encoder.mid_channels, width)
        if priors is not None:
            self.reduce_self = reducer(encoder.high_channels, width, kernel_size=3)
            self.reduce_priors = reducer(priors.high_channels, width, kernel_size=3)
        maps = cross_correspondence + (priors is not None) + len(self.margins)
        self.enrichment = FeatureEnrichment(width, levels, maps)
        self.margin_weights = nn.Parameter(torch.full((len(margins),), MARGIN_WEIGHT)) if add_margins else None

    def forward(self, query: Tensor, support_images: Tensor, support_masks: Tensor) -> QGNetOutput:
        """Segment a batch of episodes; E sees queries and supports in one pass.

        Args:
            query: (B, 3, H, W) normalised floats, H and W of the form 8n + 1.
            support_images: (B, K, 3, H, W) normalised floats.
            support_masks: (B, K, H, W) in {0, 1, 255}; only 1 is foreground. They may lie on the host.

        Raises:
            InputError: if a side is not 8n + 1.
        """
        for side in query.shape[-2:]:
            check_side(side, "An image side")
        episodes, shots = support_images.shape[:2]
        stages = self.encoder(torch.cat([query, support_images.flatten(0, 1)]), last=3)
        query_stages = {stage: x[:episodes] for stage, x in stages.items()}
        support_stages = {stage: x[episodes:] for stage, x in stages.items()}
        supports = self._support(support_stages, support_masks.flatten(0, 1)).of_shots(shots)
        encoded = self._query(query, query_stages)
        return self.decode(encoded, stack_shots(supports), (query.shape[-2], query.shape[-1]))

    def stages(self, image: Tensor) -> Stages:
        """(B, 3, H, W) normalised floats → E's features that an image has in common as a query and as a support."""
        stages = self.encoder(image, last=self.encoder.high_stage if self.margins else 3)
        return {stage: feature for stage, feature in stages.items() if stage >= 2}

    def encode_query(self, image: Tensor, stages: Stages | None = None) -> Query:
        """(B, 3, H, W) normalised floats, with :meth:`stages` if known → what depends on the query alone."""
        return self._query(image, stages or self.stages(image))

    def encode_support(self, image: Tensor, mask: Tensor, stages: Stages | None = None) -> Support:
        """As :meth:`encode_query`, with the masks (B, H, W) → what depends on the support alone."""
        return self._support(stages or self.stages(image), mask)

    def _matching(self, stages: Stages, high: Tensor) -> Tensor | None:
        """What margins compare, if there are any."""
        last = self.encoder.high_stage
        return matching_feature(stages | {last: high}, last) if self.margins else None

    def _query(self, image: Tensor, stages: Stages) -> Query:
        high = self._high(stages)
        high = resize(high, (stages[3].shape[-2], stages[3].shape[-1]))  # smaller only if nothing is dilated
        priors = self.priors(image)
        prior_map = None if priors is None else region_map(self.reduce_self(high), priors)
        pyramid = self.enrichment.pyramid(self.reduce_query(mid_level(stages)))
        return Query(pyramid, unit(high), prior_map, self._matching(stages, high))

    def priors(self, image: Tensor) -> Tensor | None:
        """(B, width, N): what self-correspondence compares the query with."""
        if self.prior_encoder is not None:
            return self.reduce_priors(self.prior_encoder(image)[self.prior_encoder.high_stage]).flatten(2)
        if self.prior_bank is not None:
            reduced = self.reduce_priors(self.prior_bank())[:, :, 1, 1]
            return reduced.T.expand(len(image), -1, -1)
        return None

    def _support(self, stages: Stages, mask: Tensor) -> Support:
        given = stages[self.encoder.high_stage - 1]
        whole = (mask.to(given.device, non_blocking=True) == 1).to(given.dtype).unsqueeze(1)
        category, masked = self.masked(stages, lambda size: resize_mask(whole, size))
        return support(category, masked, mask, self._positions(stages, mask))

    def _positions(self, stages: Stages, mask: Tensor) -> Positions | None:
        return positions(self.compared(stages), mask) if self.margins else None

    def masked(self, stages: Stages, mask: Callable[[tuple[int, int]], Tensor]) -> tuple[Tensor, Tensor]:
        """The category feature and the masked high-level feature.

        Args:
            stages: of supports, up to 3.
            mask: gives their soft mask (B, 1, h, w) for a size (h, w).
        """
        last = self.encoder.high_stage
        high = self.encoder.run_stage(last, stages[last - 1] * mask(size_of(stages[last - 1])))
        reduced = self.reduce_support(mid_level(stages))
        return masked_average(reduced, mask(size_of(reduced))), high * mask(size_of(high))

    def compared(self, stages: Stages) -> Tensor:
        """What margins compare the query with: background counts, too, so the picture is not masked."""
        last = self.encoder.high_stage
        return matching_feature(stages | {last: self._high(stages)}, last)

    def _high(self, stages: Stages) -> Tensor:
        last = self.encoder.high_stage
        return stages[last] if last in stages else self.encoder.run_stage(last, stages[last - 1])


def support(category: Tensor, masked: Tensor, mask: Tensor, known: Positions | None) -> Support:
    """What is kept of :meth:`QGNet.masked` of supports with the masks (B, H, W), which may lie on the host."""
    here = mask.to(masked.device, non_blocking=True)
    foreground = foreground_at(here, size_of(masked), masked.dtype)
    counted = foreground if here is mask else foreground_at(mask, size_of(masked), torch.float32)
    return Support(category, foreground_keys(masked, foreground, counted), known)


def two_labels(margin: Tensor) -> Tensor:
    """(B, 1, h, w) foreground minus background → logits (B, 2, h, w)."""
    return torch.cat([-margin / 2, margin / 2], dim=1)


def mid_level(stages: Stages) -> Tensor:
    """Stages 3 and 2 side by side, (B, C3 + C2, h, w)."""
    size = (stages[3].shape[-2], stages[3].shape[-1])
    return torch.cat([stages[3], resize(stages[2], size)], dim=1)


def masked_average(feature: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, C, h, w) over a soft mask (B, 1, h, w) → (B, C, 1, 1)."""
    area = mask.sum(dim=(2, 3), keepdim=True) + AREA_EPS
    return (feature * mask).sum(dim=(2, 3), keepdim=True) / area
