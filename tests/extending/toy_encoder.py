"""An encoder in one file: a fixed random layer over mean colours at stride 8, and what differs from their mean."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from qgnet.networks.encoders import Encoder, Features, Level, MaskAt


class ToyEncoder(Encoder):
    """Two levels on one grid."""

    levels = {"centred": Level(32, 8), "colours": Level(32, 8)}  # noqa: RUF012
    mid_levels = matching_levels = ("centred", "colours")
    high_level = "centred"

    def __init__(self, name: str = "toy", high_stage: int = 4, dilated: bool = True) -> None:
        super().__init__(name, high_stage, dilated)
        self.net = nn.Conv2d(3, 32, 1).requires_grad_(False)

    def forward(self, images: Tensor, levels: Sequence[str]) -> Features:
        colours = F.relu(self.net(F.avg_pool2d(images, 7, stride=8, padding=3)))
        both = {"colours": colours, "centred": centred(colours)}
        return {level: both[level] for level in levels}

    def high(self, features: Features) -> Tensor:
        return features["centred"]

    def masked_high(self, features: Features, mask: MaskAt) -> Tensor:
        colours = features["colours"]
        inside = mask((colours.shape[-2], colours.shape[-1]))
        return centred(colours * inside) * inside

    def accepts_side(self, side: int) -> bool:
        return side % 8 == 1

    def grid(self, level: str, size: tuple[int, int]) -> tuple[int, int]:
        return size[0] // 8 + 1, size[1] // 8 + 1


def centred(colours: Tensor) -> Tensor:
    return colours - colours.mean(dim=1, keepdim=True)
