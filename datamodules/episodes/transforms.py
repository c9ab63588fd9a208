"""Geometry and photometry of images and masks, on uint8 arrays, all drawn from a given seed."""

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.files.sources import IGNORE, Array

MEAN_COLOUR = (124, 116, 104)
"""ImageNet's mean, with which training crops are padded (released recipe)."""


def letterbox_size(height: int, width: int, side: int) -> tuple[int, int]:
    """(height, width) with the longer one brought to ``side``, the aspect kept, rounded to whole pixels."""
    scale = side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_mask(mask: Array, size: tuple[int, int]) -> Array:
    """(H, W) in {0, 1, 255} at ``size`` (width, height), nearest-neighbour.

    A very small object is kept by coverage: 1 wherever it covers any part of a pixel.
    """
    resized = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    if not (resized == 1).any() and (mask == 1).any():
        resized[cv2.resize((mask == 1).astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0] = 1
    return resized


class Letterbox:
    """Test-time geometry: long side to ``side``, zeros (mask: 255) below and to the right."""

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, image: Array, mask: Array, seed: int) -> tuple[Array, Array]:
        """(H, W, 3) and (H, W) → (side, side, 3) and (side, side); ``seed`` is not needed."""
        height, width = self.content_size(*mask.shape)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        mask = resize_mask(mask, (width, height))
        borders = (0, self.side - height, 0, self.side - width)
        image = cv2.copyMakeBorder(image, *borders, cv2.BORDER_CONSTANT, value=(0, 0, 0))
        return image, cv2.copyMakeBorder(mask, *borders, cv2.BORDER_CONSTANT, value=IGNORE)

    def content_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the part of the square that holds the image."""
        return letterbox_size(height, width, self.side)


class Squash:
    """Test-time geometry of HSNet: both sides to ``side``, whatever the aspect."""

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, image: Array, mask: Array, seed: int) -> tuple[Array, Array]:
        """(H, W, 3) and (H, W) → (side, side, 3) and (side, side); ``seed`` is not needed."""
        size = (self.side, self.side)
        return cv2.resize(image, size), resize_mask(mask, size)

    def content_size(self, height: int, width: int) -> tuple[int, int]:
        """All of the square."""
        return self.side, self.side


class TrainAugmentation:
    """Scaling, rotation, blur, flip and a random crop that keeps most of the foreground (released recipe).

    The crop is chosen on the mask before the image is touched: a rotated image is warped once, into the crop only, and
    an upright one is resized, which costs half of that.

    Args:
        side: of the square crop.
        scale: range of the random scaling.
        rotation: largest angle in degrees, applied with probability 0.5.
    """

    def __init__(self, side: int, scale: tuple[float, float] = (0.9, 1.1), rotation: float = 10.0) -> None:
        self.side = side
        self.scale = scale
        self.rotation = rotation

    def __call__(self, image: Array, mask: Array, seed: int) -> tuple[Array, Array]:
        """(H, W, 3) and (H, W) of {0, 1, 255} → (side, side, 3) and (side, side), a function of the arguments."""
        rng = np.random.default_rng(seed)
        scale = rng.uniform(*self.scale)
        rotated, flipped, blurred = rng.random(3) < 0.5
        angle = rng.uniform(-self.rotation, self.rotation)
        place = self.rotate if rotated else self.resize
        image, mask = place(image, mask, scale, angle, rng)
        if blurred:
            image = cv2.GaussianBlur(image, (BLUR, BLUR), BLUR_SIGMA, hint=cv2.ALGO_HINT_APPROX)
        return (cv2.flip(image, 1), cv2.flip(mask, 1)) if flipped else (image, mask)

    def rotate(
        self, image: Array, mask: Array, scale: float, angle: float, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """A crop of both, scaled and turned about their centre."""
        canvas = (max(self.side, round(mask.shape[0] * scale)), max(self.side, round(mask.shape[1] * scale)))
        matrix = centred_matrix(mask.shape, canvas, scale, angle)
        mask = warp(mask, matrix, canvas, cv2.INTER_NEAREST, IGNORE)
        top, left = foreground_crop(mask, self.side, rng)
        matrix[:, 2] -= left, top
        image = warp(image, matrix, (self.side, self.side), cv2.INTER_LINEAR, MEAN_COLOUR)
        return image, mask[top : top + self.side, left : left + self.side]

    def resize(
        self, image: Array, mask: Array, scale: float, angle: float, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """A crop of both, scaled; ``angle`` is not needed."""
        size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
        mask = self.padded(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST), IGNORE)
        image = self.padded(cv2.resize(image, size), MEAN_COLOUR)
        top, left = foreground_crop(mask, self.side, rng)
        crop = np.s_[top : top + self.side, left : left + self.side]
        return image[crop], mask[crop]

    def padded(self, image: Array, fill: int | tuple[int, ...]) -> Array:
        """The image in the middle of a canvas of at least the crop's size."""
        down, right = (max(0, self.side - n) for n in image.shape[:2])
        if not (down or right):
            return image
        borders = (down // 2, down - down // 2, right // 2, right - right // 2)
        return cv2.copyMakeBorder(image, *borders, cv2.BORDER_CONSTANT, value=fill)


BLUR = 5
BLUR_SIGMA = 0.3 * ((BLUR - 1) * 0.5 - 1) + 0.8
"""What OpenCV takes for this kernel if no sigma is given (released recipe); given, it need not be exact to the bit."""


def centred_matrix(size: tuple[int, ...], canvas: tuple[int, int], scale: float, angle: float) -> NDArray[np.float64]:
    """(2, 3) matrix that scales and turns (degrees) an image of (height, width) about the canvas's centre."""
    cos, sin = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    turn = np.array([[cos, sin], [-sin, cos]])
    old, new = (np.array([n[1] - 1, n[0] - 1]) / 2 for n in (size, canvas))
    return np.column_stack([turn, new - turn @ old])


def warp(
    image: Array, matrix: NDArray[np.float64], size: tuple[int, int], interpolation: int, fill: int | tuple[int, ...]
) -> Array:
    """The image under a (2, 3) matrix on a canvas of (height, width), filled where there is none of it."""
    return cv2.warpAffine(
        image, matrix, size[::-1], flags=interpolation, borderMode=cv2.BORDER_CONSTANT, borderValue=fill
    )


KEPT_FOREGROUND = 0.85
CROP_DRAWS = 30
"""A crop keeps at least this share of the foreground, or the last of so many draws stands (released code)."""


def foreground_crop(mask: Array, side: int, rng: np.random.Generator) -> tuple[int, int]:
    """Top and left of a random crop of ``side`` px, drawn again while it loses more than 15 % of the foreground."""
    foreground = mask == 1
    enough = KEPT_FOREGROUND * np.count_nonzero(foreground)
    for _ in range(CROP_DRAWS):
        top = int(rng.integers(mask.shape[0] - side + 1))
        left = int(rng.integers(mask.shape[1] - side + 1))
        if np.count_nonzero(foreground[top : top + side, left : left + side]) >= enough:
            break
    return top, left
