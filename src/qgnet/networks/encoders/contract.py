"""What a head may ask of an encoder, and all that it may know of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from qgnet.common.errors import InputError
from qgnet.common.settings import LARGEST_SIDE, check_side
from qgnet.networks.layers import constants, resize, size_of

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation, RGB in [0, 1], of the images that every network here takes."""

Features = dict[str, Tensor]
"""Level → (B, C, h, w)."""
MaskAt = Callable[[tuple[int, int]], Tensor]
"""Gives the soft mask (B, 1, h, w) of an image for a grid (h, w)."""


class Level(NamedTuple):
    """One of an encoder's feature levels.

    Attributes:
        channels: of its feature.
        stride: pixels between two of its positions.
    """

    channels: int
    stride: int


class Encoder(nn.Module, ABC):
    """Turns images into feature levels; QGNet's E (supervised) and P (the prior extractor) are two of these.

    A head names no stage, stride or patch. It asks by role: the *mid-level feature* (category and query features), the
    *high-level feature* (correspondences), and the high-level feature of a *masked* image (the guided map's keys).
    A kind of encoder sets the attributes below, writes the five abstract methods, and is entered in ``registry.py``.

    Args:
        name: of the architecture.
        high_stage: where it is cut: 4 is the whole encoder, 3 a quarter less.
        dilated: whether its last levels keep the grid of the mid-level feature (the paper). False leaves them as they
            were trained. The parameters are the same.

    Weights are random until loaded; see ``qgnet.weights.store``. All of them are in ``net``.

    Attributes:
        net: the module that holds the weights, with the keys of published weights.
        levels: name → channels and stride, the finest first.
        mid_levels: levels of the mid-level feature, side by side on the grid of the first.
        matching_levels: levels whose positions support matching compares, the high-level one first, the others out of
            `base_levels`; side by side on the grid of the last.
        high_level: level of the high-level feature.
        mean: of RGB in [0, 1], by which the weights want images to be normalised.
        std: standard deviation, the same.
        frozen: whether :meth:`freeze` was called.

    Raises:
        ValueError: if there is no such architecture, or it does not fulfil this.
    """

    net: nn.Module
    levels: dict[str, Level]
    mid_levels: tuple[str, ...]
    matching_levels: tuple[str, ...]
    high_level: str

    def __init__(self, name: str, high_stage: int, dilated: bool) -> None:
        super().__init__()
        self.name = name
        self.high_stage = high_stage
        self.dilated = dilated
        self.frozen = False
        self.mean, self.std = IMAGENET

    @abstractmethod
    def forward(self, images: Tensor, levels: Sequence[str]) -> Features:
        """Features of some levels.

        Args:
            images: (B, 3, H, W) floats, normalised by ImageNet's mean and standard deviation whatever the encoder; it
                brings them to its own by :meth:`normalised`.
            levels: names of `levels`, or of their blocks.

        Returns:
            level → ``(B, channels, *grid(level, (H, W)))``.
        """

    @abstractmethod
    def high(self, features: Features) -> Tensor:
        """The high-level feature of images whose `base_levels` are known; not computed again if it is among them."""

    @abstractmethod
    def masked_high(self, features: Features, mask: MaskAt) -> Tensor:
        """The high-level feature of the object alone, zero outside it, from the `base_levels` of its image."""

    @abstractmethod
    def accepts_side(self, side: int) -> bool:
        """Whether an image may have a side of so many pixels."""

    @abstractmethod
    def grid(self, level: str, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of a level's positions for an image of this height and width."""

    def blocks_of(self, level: str) -> dict[str, Level]:
        """What a level is made of, in order: name → channels and stride. By default the level itself is all.

        All are on the level's grid, and :meth:`forward` gives them by their names. HSNet and DCAMA compare each one.
        """
        return {level: self.levels[level]}

    def levels_at(self, strides: Sequence[int]) -> list[str]:
        """The names of the last levels, the finest first; ValueError if their strides are others."""
        levels = list(self.levels)[-len(strides) :]
        found = [self.levels[level].stride for level in levels]
        if found != list(strides):
            raise ValueError(
                f"the last levels of {self.name} have the strides {', '.join(map(str, found))}; expected "
                f"{', '.join(map(str, strides))}, as of a ResNet that is not dilated. Take another encoder."
            )
        return levels

    @property
    def base_levels(self) -> tuple[str, ...]:
        """What :meth:`mid`, :meth:`high` and :meth:`masked_high` start from: an image's encodings as a query and as a
        support have it in common.
        """  # noqa: D205
        return self.mid_levels

    def mid(self, features: Features) -> Tensor:
        """The mid-level feature (B, `mid_channels`, h, w) of images whose `base_levels` are known."""
        first = features[self.mid_levels[0]]
        return torch.cat([first, *(resize(features[level], size_of(first)) for level in self.mid_levels[1:])], dim=1)

    @property
    def mid_channels(self) -> int:
        """Channels of the mid-level feature."""
        return sum(self.levels[level].channels for level in self.mid_levels)

    @property
    def matching_channels(self) -> int:
        """Channels of the matching levels side by side."""
        return sum(self.levels[level].channels for level in self.matching_levels)

    @property
    def high_channels(self) -> int:
        """Channels of the high-level feature."""
        return self.levels[self.high_level].channels

    def encode_high(self, images: Tensor) -> Tensor:
        """The high-level feature of normalised images (B, 3, H, W)."""
        return self(images, [self.high_level])[self.high_level]

    def normalised(self, images: Tensor) -> Tensor:
        """From ImageNet's normalisation to the encoder's own."""
        if (self.mean, self.std) == IMAGENET:
            return images
        mean, std, own_mean, own_std = (
            constants(x, images.device, images.dtype).view(3, 1, 1) for x in (*IMAGENET, self.mean, self.std)
        )
        return (images * std + mean - own_mean) / own_std

    def check_side(self, side: int, what: str) -> None:
        """InputError, with the nearest sides that it takes, for a side of ``what`` that it does not take."""
        check_side(side, what)
        if self.accepts_side(side):
            return
        below = next((x for x in range(side, 0, -1) if self.accepts_side(x)), None)
        above = next((x for x in range(side, LARGEST_SIDE + 1) if self.accepts_side(x)), None)
        nearest = " or ".join(str(x) for x in (below, above) if x is not None)
        raise InputError(f"{what} is {side}, a side in pixels that {self.name} does not take. Take {nearest}.")

    def adapt_weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Published weights of this architecture by the keys of ``net``, without those that it does not have."""
        return state

    def freeze(self) -> None:
        """No gradients, and evaluation mode for good: batch-norm statistics never move again."""
        self.frozen = True
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Encoder":
        """As ``nn.Module.train``, but a frozen encoder stays in evaluation mode."""
        return super().train(mode and not self.frozen)
