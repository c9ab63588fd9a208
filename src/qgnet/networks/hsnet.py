"""HSNet (Min, Kang, Cho: "Hypercorrelation Squeeze for Few-Shot Segmentation", ICCV 2021, arXiv 2104.01538)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from qgnet.networks.correspondence import l2_normalise
from qgnet.networks.encoders import Encoder
from qgnet.networks.few_shot import FewShotNetwork, Prediction, to_logits
from qgnet.networks.hypercorrelation import HypercorrelationSqueeze, hypercorrelation
from qgnet.networks.layers import foreground_share, resize, size_of
from qgnet.networks.nested_tensors import has_shape

EPS = 1e-5
"""Added to norms, as in the released code (``model/base/correlation.py``)."""
VOTE = 8.0
"""Difference of the logits per share of the votes: all votes for it make a probability of 0.98, none 0.02."""
TIE = 1e-3
"""Added, as half the votes are foreground in the released code."""


class MaskedBlocks(NamedTuple):
    """What HSNet keeps of supports.

    Attributes:
        shots: per shot and block (B, C, h, w) of length 1, zero outside the foreground.
    """

    shots: list[list[Tensor]]


class HSNet(FewShotNetwork):
    """Squeezes the correlations of all blocks of an encoder's last three stages.

    K shots vote: each gives a mask, and foreground is where at least half as many masks are as where most are. Votes
    have no gradient, so in training the shots' logits are averaged instead (the paper trains with one shot).

    Args:
        encoder: not dilated, with its last three levels at the strides 8, 16 and 32.

    Raises:
        ValueError: for another encoder.
    """

    supports_type = MaskedBlocks

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.levels = encoder.levels_at((8, 16, 32))
        self.blocks = [list(encoder.blocks_of(level)) for level in self.levels]
        self.head = HypercorrelationSqueeze([len(names) for names in self.blocks])

    def encode_query(self, image: Tensor, shared: list[Tensor] | None = None) -> list[Tensor]:
        """Each block's feature (B, C, h, w), of length 1."""
        features = shared or self.shared_features(image)
        return [l2_normalise(feature, EPS) for feature in features]

    def encode_support(self, image: Tensor, mask: Tensor, shared: list[Tensor] | None = None) -> MaskedBlocks:
        """Likewise, each times the mask, which is brought to its grid."""
        features = shared or self.shared_features(image)
        mask = mask.to(features[0].device, non_blocking=True)
        return MaskedBlocks([[l2_normalise(x * foreground_share(mask, size_of(x), x.dtype), EPS) for x in features]])

    def shared_features(self, image: Tensor) -> list[Tensor]:
        """Each block's feature (B, C, h, w), the finest level first."""
        names = [name for blocks in self.blocks for name in blocks]
        features = self.encoder(image, names)
        return [features[name] for name in names]

    def stack_shots(self, shots: Sequence[MaskedBlocks]) -> MaskedBlocks:
        """The shots side by side."""
        return MaskedBlocks([features for one in shots for features in one.shots])

    def decode(
        self, query: list[Tensor], supports: MaskedBlocks, size: tuple[int, int], with_levels: bool = True
    ) -> Prediction:
        """See :class:`FewShotNetwork`; there are no maps and no level logits."""
        logits = [resize(self.head(self.pyramid(query, shot)), size) for shot in supports.shots]
        if self.training or len(logits) == 1:
            return Prediction(torch.stack(logits).mean(dim=0))
        return Prediction(to_logits(vote(logits)))

    def pyramid(self, query: Sequence[Tensor], support: Sequence[Tensor]) -> list[Tensor]:
        """The hypercorrelations (B, blocks, h, w, h', w') of each level, the finest first."""
        numbers = [len(names) for names in self.blocks]
        ends = [sum(numbers[: i + 1]) for i in range(len(numbers))]
        parts = [slice(end - number, end) for end, number in zip(ends, numbers, strict=True)]
        return [hypercorrelation(query[part], support[part]) for part in parts]

    def check_side(self, side: int, what: str) -> None:
        """See :class:`FewShotNetwork`."""
        self.encoder.check_side(side, what)

    def fits(self, supports: MaskedBlocks) -> bool:
        """See :class:`FewShotNetwork`."""
        blocks = [b for level in self.levels for b in self.encoder.blocks_of(level).values()]
        of_blocks = [(1, block.channels, None, None) for block in blocks]
        return (
            len(supports.shots) > 0
            and all(len(shot) == len(of_blocks) and all(map(has_shape, shot, of_blocks)) for shot in supports.shots)
            and super().fits(supports)
        )


def vote(logits: Sequence[Tensor]) -> Tensor:
    """K predictions (B, 2, H, W) → (B, 1, H, W), above 0 where at least half as many are foreground as where most are.

    As the released ``predict_mask_nshot``, which divides by the most votes that a position of the image has.
    """
    votes = torch.stack([x[:, 1:] > x[:, :1] for x in logits]).sum(dim=0).float()
    most = votes.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1)
    return VOTE * (votes / most - 0.5) + TIE
