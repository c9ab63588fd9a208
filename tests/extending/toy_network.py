"""A few-shot network in one file: how far a pixel's colour is from the mean colour under the supports' masks."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from qgnet.networks.few_shot import FewShotNetwork, Prediction, to_logits
from qgnet.tasks.episodic import EpisodicTask


class MeanColour(NamedTuple):
    """What is kept of supports: (B, 3)."""

    colour: Tensor


class ToyNetwork(FewShotNetwork):
    """Foreground is what is nearer to the supports' mean colour than a learnt distance."""

    supports_type = MeanColour
    map_names = ("likeness",)

    def __init__(self) -> None:
        super().__init__()
        self.distance = nn.Parameter(torch.ones(()))

    def encode_query(self, image: Tensor, shared: None = None) -> Tensor:
        return image

    def encode_support(self, image: Tensor, mask: Tensor, shared: None = None) -> MeanColour:
        inside = (mask == 1).to(image)[:, None]
        return MeanColour((image * inside).sum(dim=(2, 3)) / inside.sum(dim=(2, 3)).clamp(min=1))

    def stack_shots(self, shots: Sequence[MeanColour]) -> MeanColour:
        return MeanColour(torch.stack([shot.colour for shot in shots]).mean(dim=0))

    def decode(
        self, query: Tensor, supports: MeanColour, size: tuple[int, int], with_levels: bool = True
    ) -> Prediction:
        far = (query - supports.colour[:, :, None, None]).norm(dim=1, keepdim=True)
        logits = nn.functional.interpolate(to_logits(self.distance - far), size, mode="bilinear", align_corners=True)
        return Prediction(logits, {"likeness": (-far).exp()})

    def check_side(self, side: int, what: str) -> None:
        """Any size."""


class ToySegmentation(EpisodicTask):
    """The task of it; what is trained is set by ``optimizer``."""

    method = "Toy"

    def __init__(self) -> None:
        super().__init__(False, 0, lambda params: torch.optim.SGD(params, lr=0.1))
        self.net = ToyNetwork()
