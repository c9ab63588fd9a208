"""Where labelled images come from: the interface that folders and drawn scenes share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from datamodules.errors import InputError

Array = NDArray[Any]
"""An image (H, W, 3) or a mask (H, W), uint8; OpenCV's types do not tell."""
IGNORE = 255


class LabelledImages(Protocol):
    """Numbered images with masks of class numbers."""

    @property
    def names(self) -> Sequence[str]:
        """One unique name per image."""

    def image(self, i: int) -> Array:
        """(H, W, 3) uint8 RGB."""

    def mask(self, i: int) -> Array:
        """(H, W) uint8 class numbers, 0 background, 255 ignore."""

    def check(self, i: int) -> None:
        """InputError if image ``i`` or its mask cannot be used."""


def read_image(path: Path) -> Array:
    """A photograph as (H, W, 3) uint8 RGB; InputError if it is missing or broken."""
    data = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if data is None:
        reason = "cannot be decoded" if path.exists() else "does not exist"
        raise InputError(f"The image {path} {reason}. Restore it, or take its name out of the list.")
    return data


def read_mask(path: Path) -> Array:
    """An index mask (palette or grey PNG) as (H, W) uint8; InputError if it is missing, broken or coloured."""
    try:
        with Image.open(path) as file:
            if file.mode not in ("P", "L", "1"):
                raise InputError(
                    f"The mask {path} is a {file.mode} image; expected class numbers (a palette or grey PNG). "
                    "For VOC use SegmentationClassAug/ in its index form, not the coloured one."
                )
            return np.asarray(file, dtype=np.uint8)
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"The mask {path} cannot be decoded ({error}). Restore it from its source.") from None


class VocImages:
    """Images and masks of a VOC-layout folder, named by a list file.

    Args:
        root: holds ``JPEGImages/``, ``SegmentationClassAug/`` and ``ImageSets/Segmentation/``.
        split: the list ``ImageSets/Segmentation/<split>.txt``, one image id per line.

    Raises:
        InputError: if a folder or the list is missing, or the list is empty.
    """

    def __init__(self, root: Path, split: str) -> None:
        self.images = root / "JPEGImages"
        self.masks = root / "SegmentationClassAug"
        listing = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        for path in (self.images, self.masks, listing):
            if not path.exists():
                raise InputError(
                    f"{path} does not exist. `data.root` is {root}; expected there the VOC layout: JPEGImages/*.jpg, "
                    f"SegmentationClassAug/*.png, ImageSets/Segmentation/{split}.txt. Point --data.root to it."
                )
        self.names = listing.read_text().split()
        if not self.names:
            raise InputError(f"{listing} is empty; expected one image id per line.")

    def image(self, i: int) -> Array:
        """(H, W, 3) uint8 RGB."""
        return read_image(self.images / f"{self.names[i]}.jpg")

    def mask(self, i: int) -> Array:
        """(H, W) uint8: 0 background, 1 … 20 the VOC classes, 255 ignore."""
        return read_mask(self.masks / f"{self.names[i]}.png")

    def check(self, i: int) -> None:
        """InputError unless image ``i`` and its mask exist and agree in size; reads the headers only."""
        image = self.images / f"{self.names[i]}.jpg"
        width, height = header_size(image)
        mask_width, mask_height = header_size(self.masks / f"{self.names[i]}.png")
        if (width, height) != (mask_width, mask_height):
            raise InputError(
                f"{image} is {width}x{height} px but its mask is {mask_width}x{mask_height} px. Both must be of one "
                "size; resize the mask with nearest-neighbour, or restore the pair from its source."
            )


def header_size(path: Path) -> tuple[int, int]:
    """(width, height) from the file's header; InputError if it is missing or broken."""
    try:
        with Image.open(path) as file:
            return file.size
    except FileNotFoundError:
        raise InputError(
            f"{path} does not exist, though the list names it. Add it, or take the name out of the list."
        ) from None
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{path} cannot be decoded ({error}). Restore it from its source.") from None
