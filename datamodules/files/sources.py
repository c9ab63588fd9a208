"""Sources of labelled images: the interface of folders and drawn scenes."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.files.images import read_image, read_image_size, verify_image
from datamodules.files.masks import read_index_mask, read_mask
from qgnet.common.errors import InputError

Array = NDArray[Any]
"""An image (H, W, 3) or a mask (H, W), uint8; OpenCV's types do not tell."""
IGNORE = 255


class MaskFacts(NamedTuple):
    """An image's size and {class number: pixels}, without background and ignored pixels."""

    height: int
    width: int
    areas: dict[int, int]


class LabelledImages(ABC):
    """Numbered images with masks, each with a unique name."""

    names: Sequence[str]

    @abstractmethod
    def image(self, i: int) -> Array:
        """(H, W, 3) uint8 RGB."""

    @abstractmethod
    def mask(self, i: int, class_id: int, ignored: Collection[int] = ()) -> Array:
        """(H, W) uint8: 1 the class, 255 what is ignored and the classes ``ignored``, 0 the rest."""

    @abstractmethod
    def facts(self, i: int, whole: bool = False) -> MaskFacts:
        """Size and class areas of the mask; InputError if it or the image, decoded if ``whole``, cannot be used."""

    def files(self, i: int) -> Mapping[str, Path]:
        """The files of image ``i``, by their role; empty if the image is drawn."""
        return {}


class ImageFiles(LabelledImages):
    """Images in files."""

    images: Sequence[Path]

    def image(self, i: int) -> Array:
        """(H, W, 3) uint8 RGB."""
        return read_image(self.images[i])

    def facts(self, i: int, whole: bool = False) -> MaskFacts:
        """Those of the mask; InputError unless the image has its size and, if read ``whole``, is not cut off."""
        facts, path = self.mask_facts(i), self.images[i]
        height, width = verify_image(path) if whole else read_image_size(path)
        if (height, width) != (facts.height, facts.width):
            raise InputError(
                f"{path} is {width}x{height} px (as a viewer shows it) but its mask is {facts.width}x{facts.height} "
                "px. Both must be of one size; resize the mask with nearest-neighbour, or restore the pair from its "
                "source."
            )
        return facts

    @abstractmethod
    def mask_facts(self, i: int) -> MaskFacts:
        """Size and class areas of the mask; InputError if it cannot be used."""


def binary_mask(labels: Array, class_id: int, ignored: Collection[int] = ()) -> Array:
    """Class numbers (H, W) → 1 where ``class_id``, 255 where ignored, else 0."""
    table = np.zeros(256, np.uint8)
    table[[IGNORE, *ignored]] = IGNORE
    table[class_id] = 1
    return cv2.LUT(labels, table)


class IndexMasks(ImageFiles):
    """Images with one index mask each: 0 background, 255 ignore, else one of the class numbers ``classes``."""

    def __init__(
        self, names: Sequence[str], images: Sequence[Path], masks: Sequence[Path], classes: Collection[int]
    ) -> None:
        self.names = names
        self.images = images
        self.masks = masks
        self.classes = frozenset(classes)

    def labels(self, i: int) -> Array:
        """(H, W) uint8 class numbers, 0 background, 255 ignore; InputError if they cannot be read."""
        return read_index_mask(self.masks[i])

    def mask(self, i: int, class_id: int, ignored: Collection[int] = ()) -> Array:
        """(H, W) uint8: 1 the class, 255 what is ignored and the classes ``ignored``, 0 the rest."""
        return binary_mask(self.labels(i), class_id, ignored)

    def mask_facts(self, i: int) -> MaskFacts:
        """Size and class areas; InputError if the mask is missing, broken, coloured or holds an unknown value."""
        labels = self.labels(i)
        areas = class_areas(labels)
        unknown = sorted(set(areas) - self.classes)
        if unknown:
            raise InputError(
                f"The mask {self.masks[i]} holds the value {unknown[0]}; expected 0 (background), 255 (ignore) or one "
                f"of the {len(self.classes)} class numbers {min(self.classes)} … {max(self.classes)}. Correct the "
                "mask, or add the class."
            )
        return MaskFacts(labels.shape[0], labels.shape[1], areas)

    def files(self, i: int) -> Mapping[str, Path]:
        """The image and its mask."""
        return {"image": self.images[i], "mask": self.masks[i]}


class BinaryMasks(ImageFiles):
    """Images with a mask file per class, each as :func:`datamodules.files.read_mask` reads it.

    Args:
        names: one per image.
        images: their files.
        masks: for each image {class number: file}.
        as_hsnet: HSNet's reading of FSS-1000: the brighter half of any values, brought to the size of the image (seven
            or more masks of the official archive have another one, and one is an ordinary image).
    """

    def __init__(
        self,
        names: Sequence[str],
        images: Sequence[Path],
        masks: Sequence[Mapping[int, Path]],
        as_hsnet: bool = False,
    ) -> None:
        self.names = names
        self.images = images
        self.masks = masks
        self.as_hsnet = as_hsnet

    def mask(self, i: int, class_id: int, ignored: Collection[int] = ()) -> Array:
        """(H, W) uint8: 1 the class, 255 the classes ``ignored``, 0 the rest."""
        mask = self.read(i, class_id).astype(np.uint8)
        for other in set(ignored) & set(self.masks[i]) - {class_id}:
            mask[self.read(i, other) & (mask == 0)] = IGNORE
        return mask

    def read(self, i: int, class_id: int) -> NDArray[np.bool_]:
        """(H, W): where the class is."""
        mask = read_mask(self.masks[i][class_id], halve=self.as_hsnet)
        if self.as_hsnet and mask.shape != (size := read_image_size(self.images[i])):
            return cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST).astype(bool)
        return mask

    def mask_facts(self, i: int) -> MaskFacts:
        """Size and class areas; InputError if a mask is missing or broken, or two differ in size."""
        sizes, areas = {}, {}
        for class_id, path in self.masks[i].items():
            foreground = self.read(i, class_id)
            sizes[path] = foreground.shape
            if foreground.any():
                areas[class_id] = int(np.count_nonzero(foreground))
        if len(set(sizes.values())) != 1:
            found = ", ".join(f"{path} {w}x{h}" for path, (h, w) in sizes.items())
            raise InputError(f"The masks of {self.images[i]} differ in size ({found} px). Make them equal.")
        height, width = next(iter(sizes.values()))
        return MaskFacts(height, width, areas)

    def files(self, i: int) -> Mapping[str, Path]:
        """The image and its masks."""
        return {"image": self.images[i]} | {f"class {c}": path for c, path in self.masks[i].items()}


def class_areas(labels: Array) -> dict[int, int]:
    """Pixels of each class in (H, W) uint8 class numbers, by run lengths; without background and ignored pixels."""
    flat = labels.ravel()
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]), flat.size - 1)
    pixels = np.bincount(flat[ends], np.diff(ends, prepend=-1), 256).astype(int)
    return {int(c): int(pixels[c]) for c in np.flatnonzero(pixels) if c not in (0, IGNORE)}


def require_folder(path: Path, expected: str) -> None:
    """InputError unless ``path`` is a folder that can be read; ``expected`` says what should lie there."""
    if not path.is_dir():
        raise InputError(f"{path} does not exist. Expected {expected}. Point the data set's root to it.")
    try:
        next(path.iterdir(), None)
    except PermissionError:
        raise InputError(f"{path} cannot be read (permission denied). Give yourself the right to read it.") from None
