"""QGNet (Liu et al., arXiv 2108.05293): few-shot segmentation from a guided and a prior region map."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from qgnet.networks.correspondence import region_map
from qgnet.networks.encoders import Encoder
from qgnet.networks.enrichment import FeatureEnrichment
from qgnet.networks.layers import reducer, resize

AREA_EPS = 0.0005
"""Added to the mask's area in masked average pooling, as in the released code."""


class Query(NamedTuple):
    """All that QGNet keeps of a query image.

    Attributes:
        feature: (B, width, h, w), the reduced mid-level feature.
        high: (B, C, h, w), E's high-level feature.
        prior_map: (B, 1, h, w) in [0, 1], from self-correspondence; None without it.
    """

    feature: Tensor
    high: Tensor
    prior_map: Tensor | None


class Support(NamedTuple):
    """All that QGNet keeps of a support image and its mask.

    Attributes:
        category: (B, width, 1, 1), the masked average of the reduced mid-level feature.
        keys: (B, C, h * w), the masked high-level feature's positions.
    """

    category: Tensor
    keys: Tensor


class QGNetOutput(NamedTuple):
    """What QGNet predicts of a query.

    Attributes:
        logits: (B, 2, H, W), background and foreground, at the image's size.
        guided_map: (B, 1, h, w) in [0, 1], mean over the shots.
        prior_map: (B, 1, h, w) in [0, 1]; None without self-correspondence.
        level_logits: one (B, 2, h_l, w_l) per level of the FEM.
    """

    logits: Tensor
    guided_map: Tensor
    prior_map: Tensor | None
    level_logits: list[Tensor]


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


class QGNet(nn.Module):
    """Segments in a query image what a few masks show in support images.

    Args:
        encoder: E, dilated.
        priors: P, dilated: the priors are the positions of the query's own feature (the
            released code). Or a bank of them, fixed beforehand. None leaves self-correspondence out.
        width: channels of the head (256 in the paper).
        levels: sides or ratios of the FEM's pyramid, see :class:`FeatureEnrichment`.
        cross_correspondence: whether the FEM sees the guided map.
    """

    def __init__(
        self,
        encoder: Encoder,
        priors: "Encoder | PriorBank | None",
        width: int = 256,
        levels: Sequence[float] = (60, 30, 15, 8),
        cross_correspondence: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.prior_bank = priors if isinstance(priors, PriorBank) else None
        self.prior_encoder = None if isinstance(priors, PriorBank) else priors
        self.cross_correspondence = cross_correspondence
        self.reduce_query = reducer(encoder.mid_channels, width)
        self.reduce_support = reducer(encoder.mid_channels, width)
        if priors is not None:
            self.reduce_self = reducer(encoder.high_channels, width, kernel_size=3)
            self.reduce_priors = reducer(priors.high_channels, width, kernel_size=3)
        self.enrichment = FeatureEnrichment(width, levels, maps=cross_correspondence + (priors is not None))

    def forward(self, query: Tensor, support_images: Tensor, support_masks: Tensor) -> QGNetOutput:
        """Segment a batch of episodes; E sees queries and supports in one pass.

        Args:
            query: (B, 3, H, W) normalised floats, H and W of the form 8n + 1.
            support_images: (B, K, 3, H, W) normalised floats.
            support_masks: (B, K, H, W) in {0, 1, 255}; only 1 is foreground.

        Raises:
            ValueError: if a side is not 8n + 1.
        """
        check_side(*query.shape[-2:])
        episodes, shots = support_images.shape[:2]
        stages = self.encoder(torch.cat([query, support_images.flatten(0, 1)]), last=3)
        query_stages = {stage: x[:episodes] for stage, x in stages.items()}
        support_stages = {stage: x[episodes:] for stage, x in stages.items()}
        support = self._support(support_stages, support_masks.flatten(0, 1))
        support = Support(*(x.unflatten(0, (episodes, shots)) for x in support))
        return self.decode(self._query(query, query_stages), support, (query.shape[-2], query.shape[-1]))

    def encode_query(self, image: Tensor) -> Query:
        """(B, 3, H, W) normalised floats → what depends on the query alone."""
        return self._query(image, self.encoder(image, last=3))

    def encode_support(self, image: Tensor, mask: Tensor) -> Support:
        """(B, 3, H, W) normalised floats and their masks (B, H, W) → what depends on the support alone."""
        return self._support(self.encoder(image, last=3), mask)

    def decode(self, query: Query, supports: Support, size: tuple[int, int]) -> QGNetOutput:
        """The prediction at ``size`` from an encoded query and its encoded supports, stacked to (B, K, …)."""
        category = supports.category.mean(dim=1)
        guided_map = torch.stack([region_map(query.high, keys) for keys in supports.keys.unbind(1)]).mean(dim=0)
        maps = [guided_map] if self.cross_correspondence else []
        if query.prior_map is not None:
            maps.append(query.prior_map)
        logits, level_logits = self.enrichment(query.feature, category, maps)
        return QGNetOutput(resize(logits, size), guided_map, query.prior_map, level_logits)

    def _query(self, image: Tensor, stages: dict[int, Tensor]) -> Query:
        high = stages[3] if self.encoder.high_stage == 3 else self.encoder.run_stage(4, stages[3])
        priors = self._priors(image)
        prior_map = None if priors is None else region_map(self.reduce_self(high), priors)
        return Query(self.reduce_query(mid_level(stages)), high, prior_map)

    def _priors(self, image: Tensor) -> Tensor | None:
        """(B, width, N): what self-correspondence compares the query with."""
        if self.prior_encoder is not None:
            return self.reduce_priors(self.prior_encoder(image)[self.prior_encoder.high_stage]).flatten(2)
        if self.prior_bank is not None:
            reduced = self.reduce_priors(self.prior_bank())[:, :, 1, 1]
            return reduced.T.expand(len(image), -1, -1)
        return None

    def _support(self, stages: dict[int, Tensor], mask: Tensor) -> Support:
        last = self.encoder.high_stage
        below = stages[last - 1]
        whole = (mask == 1).to(below.dtype).unsqueeze(1)
        high = self.encoder.run_stage(last, below * resize(whole, (below.shape[-2], below.shape[-1])))
        foreground = resize(whole, (high.shape[-2], high.shape[-1]))
        high = high * foreground
        category = masked_average(self.reduce_support(mid_level(stages)), foreground)
        return Support(category, high.flatten(2))


def mid_level(stages: dict[int, Tensor]) -> Tensor:
    """Stages 3 and 2 side by side, (B, C3 + C2, h, w)."""
    size = (stages[3].shape[-2], stages[3].shape[-1])
    return torch.cat([stages[3], resize(stages[2], size)], dim=1)


def masked_average(feature: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, C, h, w) over a soft mask (B, 1, h, w) → (B, C, 1, 1)."""
    area = mask.sum(dim=(2, 3), keepdim=True) + AREA_EPS
    return (feature * mask).sum(dim=(2, 3), keepdim=True) / area


def check_side(*sides: int) -> None:
    """Raise ValueError unless each image side is of the form 8n + 1, so that strided and dilated stages line up."""
    for side in sides:
        if side % 8 != 1:
            lower = (side - 1) // 8 * 8 + 1
            raise ValueError(f"An image side of {side} px is not 8n + 1; take {lower} or {lower + 8}.")
