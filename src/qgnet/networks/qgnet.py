"""QGNet (Liu et al., arXiv 2108.05293): few-shot segmentation from a guided and a prior region map."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qgnet.networks.correspondence import region_map, unit, unit_region_map
from qgnet.networks.encoded import has_shape
from qgnet.networks.encoders import Encoder, Features
from qgnet.networks.encoders.contract import MaskAt
from qgnet.networks.enrichment import FeatureEnrichment
from qgnet.networks.few_shot import FewShotNetwork, Prediction, two_labels
from qgnet.networks.foreground import foreground_at, foreground_keys
from qgnet.networks.layers import reducer, resize, resize_mask, size_of
from qgnet.networks.score_maps import (
    SCORE_MAPS,
    Positions,
    are_positions,
    compute_score_maps,
    matching_feature,
    of_all_shots,
    positions,
)

GUIDED, PRIOR = "guided", "prior"
"""Names of the region maps: from cross- and from self-correspondence."""
SCORE_MAP_WEIGHT = 1.5
"""Of each score map at the beginning of a training, where ``add_to_score_maps``; about what a training leaves."""

AREA_EPS = 0.0005
"""Added to the mask's area in masked average pooling, as in the released code."""


class Query(NamedTuple):
    """All that QGNet keeps of a query image.

    Attributes:
        pyramid: per level of the FEM (B, width, h_l, w_l), what it makes of the reduced mid-level feature.
        high: (B, C, h, w) float32 of length 1, E's high-level feature.
        prior_map: (B, 1, h, w) in [0, 1], from self-correspondence; None without it.
        matching: (B, C', h, w) of length 1, what score maps compare; None without them.
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
        positions: what score maps compare; None without them.
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
        positions: of all shots together; None without score maps.
    """

    category: Tensor
    keys: list[Tensor]
    positions: Positions | None


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


class QGNetDecoder(FewShotNetwork):
    """What QGNet does once the images are encoded, by whatever encodes them.

    Attributes:
        score_maps: names of `SCORE_MAPS`, which the FEM sees as further region maps.
        score_map_weights: of each score map that the FEM's logits are added to; None: they are the prediction.
        cross_correspondence: whether the FEM sees the guided map.
        enrichment: the FEM, called as :class:`FeatureEnrichment` is.
    """

    score_map_weights: Tensor | None
    cross_correspondence: bool
    enrichment: nn.Module
    supports_type = Supports

    def stack_shots(self, shots: Sequence[Support]) -> Supports:
        """See :class:`FewShotNetwork`; the category feature is the mean over the shots."""
        category = torch.stack([shot.category for shot in shots]).mean(dim=0)
        known = [shot.positions for shot in shots if shot.positions is not None]
        return Supports(category, [shot.keys for shot in shots], of_all_shots(known) if known else None)

    def decode(self, query: Query, supports: Supports, size: tuple[int, int], with_levels: bool = True) -> Prediction:
        """See :class:`FewShotNetwork`; the maps are ``guided``, the mean over the shots, and ``prior``.

        The guided map is drawn and scored even where the FEM does not see it.
        """
        guided_map = torch.stack([unit_region_map(query.high, keys) for keys in supports.keys]).mean(dim=0)
        prior_map = {} if query.prior_map is None else {PRIOR: query.prior_map}
        maps = [*([guided_map] if self.cross_correspondence else []), *prior_map.values()]
        found = self._score_maps(query, supports)
        full = (query.high.shape[-2], query.high.shape[-1])
        logits, level_logits = self.enrichment(
            query.pyramid, supports.category, [*maps, *found.values()], full, with_levels
        )
        if self.score_map_weights is not None:
            weighted = zip(self.score_map_weights, found.values(), strict=True)
            logits = logits + two_labels(sum(weight * resize(score_map, full) for weight, score_map in weighted))
        return Prediction(resize(logits, size), {GUIDED: guided_map, **prior_map}, level_logits, found)

    def compared(self, query: Query, supports: Supports) -> tuple[Tensor, Positions] | None:
        """See :class:`FewShotNetwork`; None without score maps."""
        return None if query.matching is None or supports.positions is None else (query.matching, supports.positions)

    def _score_maps(self, query: Query, supports: Supports) -> dict[str, Tensor]:
        compared = self.compared(query, supports)
        return {} if compared is None else compute_score_maps(*compared, self.score_map_names)


class QGNet(QGNetDecoder):
    """Segments in a query image what a few masks show in support images.

    Args:
        encoder: E, dilated in the paper.
        priors: P, of the same stages: the priors are the positions of the query's own feature (the
            released code). Or a bank of them, fixed beforehand. None leaves self-correspondence out.
        width: channels of the head (256 in the paper).
        levels: sides or ratios of the FEM's pyramid, see :class:`FeatureEnrichment`.
        cross_correspondence: whether the FEM sees the guided map.
        score_maps: names of `SCORE_MAPS`, which the FEM sees as further region maps (not in the paper).
        add_to_score_maps: whether the FEM's logits are added to these score maps, each with a learnt weight, instead of
            being the prediction (not in the paper).

    Raises:
        ValueError: for a score map that there is not, or is named twice, or ``add_to_score_maps`` without any.
    """

    enrichment: FeatureEnrichment

    def __init__(
        self,
        encoder: Encoder,
        priors: "Encoder | PriorBank | None",
        width: int = 256,
        levels: Sequence[float] = (60, 30, 15, 8),
        cross_correspondence: bool = True,
        score_maps: Sequence[str] = (),
        add_to_score_maps: bool = False,
    ) -> None:
        super().__init__()
        unknown = [name for name in score_maps if name not in SCORE_MAPS]
        if unknown:
            raise ValueError(f"score_maps names {unknown[0]!r}; expected some of {', '.join(SCORE_MAPS)}.")
        twice = [name for name in score_maps if list(score_maps).count(name) > 1]
        if twice:
            raise ValueError(
                f"score_maps names {twice[0]!r} twice; expected each of {', '.join(SCORE_MAPS)} once at most."
            )
        if add_to_score_maps and not score_maps:
            raise ValueError(f"add_to_score_maps needs score_maps to add to; expected some of {', '.join(SCORE_MAPS)}.")
        self.score_map_names = tuple(score_maps)
        self.encoder = encoder
        self.prior_bank = priors if isinstance(priors, PriorBank) else None
        self.prior_encoder = None if isinstance(priors, PriorBank) else priors
        self.cross_correspondence = cross_correspondence
        self.map_names = (GUIDED,) if priors is None else (GUIDED, PRIOR)
        self.reduce_query = reducer(encoder.mid_channels, width)
        self.reduce_support = reducer(encoder.mid_channels, width)
        if priors is not None:
            self.reduce_self = reducer(encoder.high_channels, width, kernel_size=3)
            self.reduce_priors = reducer(priors.high_channels, width, kernel_size=3)
        maps = cross_correspondence + (priors is not None) + len(self.score_map_names)
        self.enrichment = FeatureEnrichment(width, levels, maps)
        self.score_map_weights = (
            nn.Parameter(torch.full((len(score_maps),), SCORE_MAP_WEIGHT)) if add_to_score_maps else None
        )
        self.register_load_state_dict_pre_hook(rename_old_weights)

    def encode_episodes(
        self, query: Tensor, support_images: Tensor, support_masks: Tensor
    ) -> tuple[Query, list[Support]]:
        """See :class:`FewShotNetwork`; E sees queries and supports in one pass."""
        episodes, shots = support_images.shape[:2]
        features = self.encoder(torch.cat([query, support_images.flatten(0, 1)]), self.encoder.shared_levels)
        of_queries = {level: x[:episodes] for level, x in features.items()}
        of_supports = {level: x[episodes:] for level, x in features.items()}
        supports = self._support(of_supports, support_masks.flatten(0, 1)).of_shots(shots)
        return self._query(query, of_queries), supports

    def shared(self, image: Tensor) -> Features:
        """E's features that an image has in common as a query and as a support."""
        high = [self.encoder.high_level] if self.score_map_names else []
        return self.encoder(image, [*self.encoder.shared_levels, *high])

    def encode_query(self, image: Tensor, shared: Features | None = None) -> Query:
        """See :class:`FewShotNetwork`."""
        return self._query(image, shared or self.shared(image))

    def encode_support(self, image: Tensor, mask: Tensor, shared: Features | None = None) -> Support:
        """See :class:`FewShotNetwork`."""
        return self._support(shared or self.shared(image), mask)

    def check_side(self, side: int, what: str) -> None:
        """See :class:`FewShotNetwork`."""
        for encoder in (self.encoder, self.prior_encoder):
            if encoder is not None:
                encoder.check_side(side, what)

    def fits(self, supports: Supports) -> bool:
        """See :class:`FewShotNetwork`."""
        width, high = self.enrichment.width, self.encoder.high_channels
        keys_fit = len(supports.keys) > 0 and all(has_shape(keys, (1, high, None)) for keys in supports.keys)
        positions = supports.positions
        compared_fit = (
            are_positions(positions, self.encoder.matching_channels) if self.score_map_names else positions is None
        )
        return has_shape(supports.category, (1, width, 1, 1)) and keys_fit and compared_fit and super().fits(supports)

    def _query(self, image: Tensor, features: Features) -> Query:
        mid, high = self.encoder.mid(features), self.encoder.high(features)
        compared = self.encoder.compared(features | {self.encoder.high_level: high})
        matching = matching_feature(compared) if self.score_map_names else None
        high = resize(high, size_of(mid))  # smaller only if nothing is dilated
        priors = self.priors(image)
        prior_map = None if priors is None else region_map(self.reduce_self(high), priors)
        pyramid = self.enrichment.pyramid(self.reduce_query(mid))
        return Query(pyramid, unit(high), prior_map, matching)

    def priors(self, image: Tensor) -> Tensor | None:
        """(B, width, N): what self-correspondence compares the query with."""
        if self.prior_encoder is not None:
            return self.reduce_priors(self.prior_encoder.high_of(image)).flatten(2)
        if self.prior_bank is not None:
            reduced = self.reduce_priors(self.prior_bank())[:, :, 1, 1]
            return reduced.T.expand(len(image), -1, -1)
        return None

    def _support(self, features: Features, mask: Tensor) -> Support:
        like = features[self.encoder.mid_levels[0]]
        whole = (mask.to(like.device, non_blocking=True) == 1).to(like.dtype).unsqueeze(1)
        category, masked = self.masked(features, lambda size: resize_mask(whole, size))
        known = positions(matching_feature(self.encoder.compared(features)), mask) if self.score_map_names else None
        return support(category, masked, mask, known)

    def masked(self, features: Features, mask: MaskAt) -> tuple[Tensor, Tensor]:
        """The category feature and the masked high-level feature of supports."""
        high = self.encoder.masked_high(features, mask)
        reduced = self.reduce_support(self.encoder.mid(features))
        return masked_average(reduced, mask(size_of(reduced))), high


def rename_old_weights(net: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Weights of earlier versions, whose names begin with ``prefix``, by their names of today, in place."""
    old = f"{prefix}margin_weights"
    if old in state:
        state[f"{prefix}score_map_weights"] = state.pop(old)


def support(category: Tensor, masked: Tensor, mask: Tensor, known: Positions | None) -> Support:
    """What is kept of :meth:`QGNet.masked` of supports with the masks (B, H, W), which may lie on the host."""
    here = mask.to(masked.device, non_blocking=True)
    foreground = foreground_at(here, size_of(masked), masked.dtype)
    counted = foreground if here is mask else foreground_at(mask, size_of(masked), torch.float32)
    return Support(category, foreground_keys(masked, foreground, counted), known)


def masked_average(feature: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, C, h, w) over a soft mask (B, 1, h, w) → (B, C, 1, 1)."""
    area = mask.sum(dim=(2, 3), keepdim=True) + AREA_EPS
    return (feature * mask).sum(dim=(2, 3), keepdim=True) / area
