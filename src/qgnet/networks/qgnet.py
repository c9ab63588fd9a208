"""QGNet (Liu et al., arXiv 2108.05293): few-shot segmentation from a guided and a prior region map.

E, an encoder that was trained with labels, sees supports and query; P, the prior extractor of stage 1, sees the query.

- *Category feature*: the supports' mid-level feature, averaged over their foreground.
- *Cross-correspondence* compares the query with the supports' foreground: the guided map.
- *Self-correspondence* compares the query with its priors, without any support: the prior map.
- The *feature enrichment module* (FEM) mixes both maps with the query and category features and gives the logits.
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qgnet.networks.correspondence import foreground_keys, l2_normalise, region_map
from qgnet.networks.encoders import Encoder, Features
from qgnet.networks.encoders.contract import MaskAt
from qgnet.networks.enrichment import FeatureEnrichment
from qgnet.networks.few_shot import FewShotNetwork, Prediction, to_logits
from qgnet.networks.layers import foreground_share, reducer, resize, size_of
from qgnet.networks.nested_tensors import has_shape, map_tensors
from qgnet.networks.score_maps import (
    SCORE_MAPS,
    SupportPositions,
    are_support_positions,
    compute_score_maps,
    join_shots,
    matching_feature,
    support_positions,
)

GUIDED, PRIOR = "guided", "prior"
"""Names of the region maps: from cross- and from self-correspondence."""
SCORE_MAP_WEIGHT = 1.5
"""Of each score map at the beginning of a training, where ``add_to_score_maps``; about what a training leaves."""
AREA_EPS = 0.0005
"""Added to the mask's area in masked average pooling, as in the released code."""


class EncodedQuery(NamedTuple):
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


class EncodedSupport(NamedTuple):
    """All that QGNet keeps of a support image and its mask.

    Attributes:
        category: (B, width, 1, 1), the masked average of the reduced mid-level feature.
        keys: (B, C, N), the masked high-level feature's foreground positions, as :func:`foreground_keys` picks them.
        positions: what score maps compare; None without them.
    """

    category: Tensor
    keys: Tensor
    positions: SupportPositions | None = None


class EncodedSupports(NamedTuple):
    """What QGNet compares a query with: all K shots of an episode.

    Attributes:
        category: (B, width, 1, 1), their mean.
        keys: K times (B, C, N_k).
        positions: of all shots together; None without score maps.
    """

    category: Tensor
    keys: list[Tensor]
    positions: SupportPositions | None


class PriorBank(nn.Module):
    """Priors that are the same for every query: cluster centres of P's features over unlabelled images [paper].

    Args:
        size: number of priors, K.
        channels: of P's high-level feature.

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
        score_map_names: of `SCORE_MAPS`, which the FEM sees as further region maps.
        score_map_weights: of each score map that the FEM's logits are added to; None: they are the prediction.
        cross_correspondence: whether the FEM sees the guided map.
        enrichment: the FEM, called as :class:`FeatureEnrichment` is.
    """

    score_map_weights: Tensor | None
    cross_correspondence: bool
    enrichment: nn.Module
    supports_type = EncodedSupports

    def stack_shots(self, shots: Sequence[EncodedSupport]) -> EncodedSupports:
        """See :class:`FewShotNetwork`; the category feature is the mean over the shots."""
        category = torch.stack([shot.category for shot in shots]).mean(dim=0)
        positions = [shot.positions for shot in shots if shot.positions is not None]
        return EncodedSupports(category, [shot.keys for shot in shots], join_shots(positions) if positions else None)

    def decode(
        self, query: EncodedQuery, supports: EncodedSupports, size: tuple[int, int], with_levels: bool = True
    ) -> Prediction:
        """See :class:`FewShotNetwork`; the maps are ``guided``, the mean over the shots, and ``prior``.

        The guided map is drawn and scored even where the FEM does not see it.
        """
        guided_maps = [region_map(query.high, keys, normalised=True) for keys in supports.keys]
        maps = {GUIDED: torch.stack(guided_maps).mean(dim=0)}
        if query.prior_map is not None:
            maps[PRIOR] = query.prior_map
        score_maps = self._score_maps(query, supports)
        seen = [values for name, values in maps.items() if name != GUIDED or self.cross_correspondence]
        full = (query.high.shape[-2], query.high.shape[-1])
        logits, level_logits = self.enrichment(
            query.pyramid, supports.category, [*seen, *score_maps.values()], full, with_levels
        )
        if self.score_map_weights is not None:
            weighted = zip(self.score_map_weights, score_maps.values(), strict=True)
            logits = logits + to_logits(sum(weight * resize(score_map, full) for weight, score_map in weighted))
        return Prediction(resize(logits, size), maps, level_logits, score_maps)

    def presence_features(
        self, query: EncodedQuery, supports: EncodedSupports
    ) -> tuple[Tensor, SupportPositions] | None:
        """See :class:`FewShotNetwork`; None without score maps."""
        return None if query.matching is None or supports.positions is None else (query.matching, supports.positions)

    def _score_maps(self, query: EncodedQuery, supports: EncodedSupports) -> dict[str, Tensor]:
        features = self.presence_features(query, supports)
        return {} if features is None else compute_score_maps(*features, self.score_map_names)


class QGNet(QGNetDecoder):
    """Segments in a query image what a few masks show in support images.

    Args:
        encoder: E, dilated in the paper.
        priors: P: the priors are the positions of the query's own feature (the released code). Or a bank of them, fixed
            beforehand. None leaves self-correspondence out.
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
        check_score_maps(score_maps, add_to_score_maps)
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
        maps = cross_correspondence + (priors is not None) + len(score_maps)
        self.enrichment = FeatureEnrichment(width, levels, maps)
        weights = torch.full((len(score_maps),), SCORE_MAP_WEIGHT)
        self.score_map_weights = nn.Parameter(weights) if add_to_score_maps else None
        self.register_load_state_dict_pre_hook(rename_old_weights)

    def encode_episodes(
        self, query: Tensor, support_images: Tensor, support_masks: Tensor
    ) -> tuple[EncodedQuery, list[EncodedSupport]]:
        """See :class:`FewShotNetwork`; E sees queries and supports in one pass."""
        episodes, shots = support_images.shape[:2]
        supports = support_images.flatten(0, 1)
        features = self.encoder(torch.cat([query, supports]), self.encoder.base_levels)
        of_supports = {level: x[episodes:] for level, x in features.items()}
        encoded = self.encode_support(supports, support_masks.flatten(0, 1), of_supports)
        of_queries = {level: x[:episodes] for level, x in features.items()}
        by_shot = [map_tensors(itemgetter(slice(k, None, shots)), encoded) for k in range(shots)]
        return self.encode_query(query, of_queries), by_shot

    def shared_features(self, image: Tensor) -> Features:
        """E's features that an image has in common as a query and as a support."""
        high = [self.encoder.high_level] if self.score_map_names else []
        return self.encoder(image, [*self.encoder.base_levels, *high])

    def encode_query(self, image: Tensor, shared: Features | None = None) -> EncodedQuery:
        """See :class:`FewShotNetwork`."""
        features = shared or self.shared_features(image)
        mid, high = self.encoder.mid(features), self.encoder.high(features)
        features = features | {self.encoder.high_level: high}
        matching = matching_feature(self.encoder, features) if self.score_map_names else None
        high = resize(high, size_of(mid))  # smaller only if nothing is dilated
        prior_map = self.prior_map(image, high)
        return EncodedQuery(self.enrichment.pyramid(self.reduce_query(mid)), l2_normalise(high), prior_map, matching)

    def encode_support(self, image: Tensor, mask: Tensor, shared: Features | None = None) -> EncodedSupport:
        """See :class:`FewShotNetwork`."""
        features = shared or self.shared_features(image)
        like = features[self.encoder.mid_levels[0]]
        on_device = mask.to(like.device, non_blocking=True)
        category, masked_high = self.masked_features(
            features, lambda size: foreground_share(on_device, size, like.dtype)
        )
        feature = matching_feature(self.encoder, features) if self.score_map_names else None
        positions = None if feature is None else support_positions(feature, mask)
        return EncodedSupport(category, foreground_keys(masked_high, mask), positions)

    def masked_features(self, features: Features, mask: MaskAt) -> tuple[Tensor, Tensor]:
        """The category feature and the masked high-level feature of supports."""
        masked_high = self.encoder.masked_high(features, mask)
        reduced = self.reduce_support(self.encoder.mid(features))
        return masked_average(reduced, mask(size_of(reduced))), masked_high

    def prior_map(self, image: Tensor, high: Tensor) -> Tensor | None:
        """Self-correspondence of E's high-level feature with the priors: (B, 1, h, w) in [0, 1]; None without it."""
        priors = self.priors(image)
        return None if priors is None else region_map(self.reduce_self(high), priors)

    def priors(self, image: Tensor) -> Tensor | None:
        """(B, width, N): what self-correspondence compares the query with."""
        if self.prior_encoder is not None:
            return self.reduce_priors(self.prior_encoder.encode_high(image)).flatten(2)
        if self.prior_bank is not None:
            return self.reduce_priors(self.prior_bank())[:, :, 1, 1].T.expand(len(image), -1, -1)
        return None

    def check_side(self, side: int, what: str) -> None:
        """See :class:`FewShotNetwork`."""
        for encoder in (self.encoder, self.prior_encoder):
            if encoder is not None:
                encoder.check_side(side, what)

    def fits(self, supports: EncodedSupports) -> bool:
        """See :class:`FewShotNetwork`."""
        category, keys, positions = supports
        category_fits = has_shape(category, (1, self.enrichment.width, 1, 1))
        keys_fit = len(keys) > 0 and all(has_shape(x, (1, self.encoder.high_channels, None)) for x in keys)
        if self.score_map_names:
            positions_fit = are_support_positions(positions, self.encoder.matching_channels)
        else:
            positions_fit = positions is None
        return category_fits and keys_fit and positions_fit and super().fits(supports)


def check_score_maps(names: Sequence[str], add_to_score_maps: bool) -> None:
    """ValueError for what `QGNet` cannot use."""
    there = ", ".join(SCORE_MAPS)
    for name in names:
        if name not in SCORE_MAPS:
            raise ValueError(f"score_maps names {name!r}; expected some of {there}.")
        if list(names).count(name) > 1:
            raise ValueError(f"score_maps names {name!r} twice; expected each of {there} once at most.")
    if add_to_score_maps and not names:
        raise ValueError(f"add_to_score_maps needs score_maps to add to; expected some of {there}.")


def rename_old_weights(net: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Weights of earlier versions, whose names begin with ``prefix``, by their names of today, in place."""
    old = f"{prefix}margin_weights"
    if old in state:
        state[f"{prefix}score_map_weights"] = state.pop(old)


def masked_average(feature: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, C, h, w) over a soft mask (B, 1, h, w) → (B, C, 1, 1)."""
    area = mask.sum(dim=(2, 3), keepdim=True) + AREA_EPS
    return (feature * mask).sum(dim=(2, 3), keepdim=True) / area
