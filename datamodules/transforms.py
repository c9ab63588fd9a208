"""Geometry and photometry of images and masks, on uint8 arrays, all drawn from a given seed."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # albumentations asks the network for updates at import

import albumentations as A
import cv2
import numpy as np

from datamodules.sources import IGNORE, Array

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's channel mean and standard deviation, RGB in [0, 1]."""
MEAN_COLOUR = tuple(round(255 * m) for m in MEAN)


def fit_size(height: int, width: int, side: int) -> tuple[int, int]:
    """(height, width) with the longer one brought to ``side``, the aspect kept, rounded to whole pixels."""
    scale = side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


class FitAndPad:
    """Test-time geometry: long side to ``side``, zeros (mask: 255) below and to the right."""

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, image: Array, mask: Array, seed: int) -> tuple[Array, Array]:
        """(H, W, 3) and (H, W) → (side, side, 3) and (side, side); ``seed`` is not needed."""
        height, width = self.fitted(*mask.shape)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        return pad(image, mask, self.side, fill=(0, 0, 0), centred=False)

    def fitted(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the part of the square that holds the image."""
        return fit_size(height, width, self.side)


class Squash:
    """Test-time geometry of HSNet: both sides to ``side``, whatever the aspect."""

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, image: Array, mask: Array, seed: int) -> tuple[Array, Array]:
        """(H, W, 3) and (H, W) → (side, side, 3) and (side, side); ``seed`` is not needed."""
        size = (self.side, self.side)
        return cv2.resize(image, size), cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)

    def fitted(self, height: int, width: int) -> tuple[int, int]:
        """All of the square."""
        return self.side, self.side


class TrainAugmentation:
    """Scaling, rotation, blur, flip and a random crop that keeps most of the foreground (released recipe).

    Args:
        side: of the square crop.
        scale: range of the random scaling.
        rotation: largest angle in degrees, applied with probability 0.5.
    """

    def __init__(self, side: int, scale: tuple[float, float] = (0.9, 1.1), rotation: float = 10.0) -> None:
        self.side = side
        self.augment = A.Compose(
            [
                A.RandomScale(scale_limit=(scale[0] - 1, scale[1] - 1), p=1.0),
                A.Rotate(
                    limit=(-rotation, rotation), border_mode=cv2.BORDER_CONSTANT, fill=MEAN_COLOUR, fill_mask=IGNORE
                ),
                A.GaussianBlur(blur_limit=(5, 5), p=0.5),
                A.HorizontalFlip(p=0.5),
            ]
        )

    def __call__(self, image: Array, mask: Array, seed: int) -> tuple[Array, Array]:
        """(H, W, 3) and (H, W) of {0, 1, 255} → (side, side, 3) and (side, side), a function of the arguments."""
        self.augment.set_random_seed(seed)
        done = self.augment(image=image, mask=mask)
        image, mask = pad(done["image"], done["mask"], self.side, fill=MEAN_COLOUR, centred=True)
        return foreground_crop(image, mask, self.side, np.random.default_rng(seed))


def pad(image: Array, mask: Array, side: int, fill: tuple[int, ...], centred: bool) -> tuple[Array, Array]:
    """Pad both up to at least ``side`` x ``side``; the mask with 255."""
    height, width = mask.shape
    down, right = max(0, side - height), max(0, side - width)
    top, left = (down // 2, right // 2) if centred else (0, 0)
    borders = (top, down - top, left, right - left)
    image = cv2.copyMakeBorder(image, *borders, cv2.BORDER_CONSTANT, value=fill)
    mask = cv2.copyMakeBorder(mask, *borders, cv2.BORDER_CONSTANT, value=IGNORE)
    return image, mask


KEPT_FOREGROUND = 0.85
CROP_DRAWS = 30
"""A crop keeps at least this share of the foreground, or the last of so many draws stands (released code)."""


def foreground_crop(image: Array, mask: Array, side: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """A random ``side`` x ``side`` crop, drawn again while it loses more than 15 % of the foreground."""
    height, width = mask.shape
    foreground = np.count_nonzero(mask == 1)
    for _ in range(CROP_DRAWS):
        top = int(rng.integers(height - side + 1))
        left = int(rng.integers(width - side + 1))
        window = np.s_[top : top + side, left : left + side]
        if np.count_nonzero(mask[window] == 1) >= KEPT_FOREGROUND * foreground:
            break
    return image[window], mask[window]
