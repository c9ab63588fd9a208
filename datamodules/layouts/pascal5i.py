"""VOC 2012's 20 classes, in four folds of five, and a folder in VOC's layout."""

import os
from collections.abc import Sequence
from pathlib import Path

from datamodules.files.finding import find_files
from datamodules.files.lists import read_list
from datamodules.files.sources import IndexMasks, require_folder

IMAGES = "JPEGImages"
MASKS = "SegmentationClassAug"
LISTS = "ImageSets/Segmentation"

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


def voc_folds() -> list[range]:
    """The novel classes of each fold: [1 … 5], [6 … 10], [11 … 15], [16 … 20]."""
    return [range(5 * i + 1, 5 * i + 6) for i in range(4)]


def voc_images(root: Path, split: str) -> IndexMasks:
    """Images and masks of a VOC-layout folder, named by ``ImageSets/Segmentation/<split>.txt``.

    Raises:
        InputError: if a folder or the list is missing, or the list is empty or names an image twice.
    """
    listing = root / LISTS / f"{split}.txt"
    for path in (root, root / IMAGES, root / MASKS):
        require_folder(
            path,
            "data.root",
            f"the VOC layout, {IMAGES}/*.jpg, {MASKS}/*.png and {LISTS}/{split}.txt, as `qgnet prepare pascal5i` "
            "makes it",
        )
    names = read_list(listing)
    images = files_of(root / IMAGES, names, ".jpg")
    masks = files_of(root / MASKS, names, ".png")
    return IndexMasks(names, images, masks, range(1, len(VOC_CLASSES) + 1))


def files_of(folder: Path, names: Sequence[str], ending: str) -> list[Path]:
    """A file per name: with VOC's ending, or where there is none with another."""
    found = set(find_files(folder, deep=False).files)
    others = {os.path.splitext(file)[0]: file for file in found}
    return [
        folder / (f"{name}{ending}" if f"{name}{ending}" in found else others.get(name, f"{name}{ending}"))
        for name in names
    ]
