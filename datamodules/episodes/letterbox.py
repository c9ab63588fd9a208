"""Images for a network: whole in its square, or cut into overlapping squares at their own resolution."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.episodes.episode import to_tensor
from datamodules.episodes.transforms import Letterbox
from datamodules.files.sources import Array

OVERLAP = 0.25
"""Neighbouring tiles share at least this part of their side."""


class Window(NamedTuple):
    """A part of an image, in its pixels, and the (h, w) of the square's upper left part that holds it."""

    top: int
    left: int
    height: int
    width: int
    content_size: tuple[int, int]


class Letterboxed(NamedTuple):
    """An image of ``size`` (H, W) as (T, 3, S, S) uint8 squares, and the T parts that they show, 1 without tiles."""

    squares: Tensor
    windows: list[Window]
    size: tuple[int, int]

    def inside(self) -> Tensor:
        """(T, S, S) bool: the pixels of the squares that are not padding."""
        inside = torch.zeros(len(self.windows), *self.squares.shape[-2:], dtype=torch.bool)
        for square, window in zip(inside, self.windows, strict=True):
            square[: window.content_size[0], : window.content_size[1]] = True
        return inside


def letterbox_image(image: Array, side: int, tile: bool = False) -> Letterboxed:
    """(H, W, 3) uint8 RGB → squares of ``side`` px; ``tile`` slides the square over an image that is larger."""
    height, width = image.shape[:2]
    sides = [(start, min(side, n)) for n in (height, width) for start in starts(n, side)] if tile else []
    rows, columns = (sides[: len(starts(height, side))], sides[len(starts(height, side)) :])
    parts = [(t, x, h, w) for t, h in rows for x, w in columns] or [(0, 0, height, width)]
    letterbox = Letterbox(side)
    squares, windows = [], []
    for top, left, h, w in parts:
        part = image[top : top + h, left : left + w]
        square, _ = letterbox(part, np.zeros((h, w), np.uint8), 0)
        squares.append(to_tensor(square))
        windows.append(Window(top, left, h, w, letterbox.content_size(h, w)))
    return Letterboxed(torch.stack(squares), windows, (height, width))


def starts(length: int, side: int) -> list[int]:
    """Where tiles of ``side`` begin that cover ``length``, evenly spread."""
    if length <= side:
        return [0]
    count = 1 + int(np.ceil((length - side) / (side * (1 - OVERLAP))))
    return [round(start) for start in np.linspace(0, length - side, count)]


def letterbox_support(image: Array, mask: Array, side: int) -> tuple[Tensor, Tensor]:
    """A support (H, W, 3) and its mask (H, W) in {0, 1, 255} → (3, S, S) and (S, S) uint8."""
    square, label = Letterbox(side)(image, mask, 0)
    return to_tensor(np.ascontiguousarray(square)), torch.from_numpy(label)


def crop_support(image: Array, mask: Array, side: int) -> tuple[Array, Array]:
    """A support for images in tiles of ``side`` px, so that both have the same scale.

    Where its object fits into a tile, it is cut to a tile around it; otherwise it stays whole.
    """
    if max(mask.shape) <= side:
        return image, mask
    rows, columns = np.flatnonzero((mask == 1).any(axis=1)), np.flatnonzero((mask == 1).any(axis=0))
    box = [(int(found[0]), int(found[-1]) + 1) for found in (rows, columns)]
    if any(end - start > side for start, end in box):
        return image, mask
    cut = tuple(_around(*part, length, side) for part, length in zip(box, mask.shape, strict=True))
    return image[cut], mask[cut]


def _around(start: int, end: int, length: int, side: int) -> slice:
    """``side`` px of ``length`` with start … end in their middle, as far as the border lets them."""
    first = min(max(0, (start + end - side) // 2), max(0, length - side))
    return slice(first, min(length, first + side))


def restore(values: Tensor, content_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """(S, S) values → (H, W) float32 at the image's own ``size``: the inverse of `Letterbox`.

    The padding around the content is cut off first, so the scale is exact.
    """
    without_padding = values[None, None, : content_size[0], : content_size[1]].float()
    return F.interpolate(without_padding, size, mode="bilinear", align_corners=False)[0, 0]
