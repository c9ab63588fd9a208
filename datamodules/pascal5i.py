"""PASCAL-5i: VOC 2012 with SBD's masks, 20 classes in four folds of five."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.episodic import INDEX_FOLDER, EpisodeDataModule
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


class Pascal5iDataModule(EpisodeDataModule):
    """Episodes from a VOC-layout folder (`qgnet prepare pascal5i` makes it); fold i holds classes 5i + 1 … 5i + 5.

    Args:
        root: folder with ``JPEGImages/``, ``SegmentationClassAug/`` and ``ImageSets/Segmentation/``.
        train_list: list file of the training images, without ``.txt``.
        val_list: list file of the validation and test images, without ``.txt``.
        **kwargs: settings of every EpisodeDataModule.
    """

    def __init__(
        self,
        root: str = "data/pascal",
        train_list: str = "train",
        val_list: str = "val",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)
        self.lists = {"train": train_list, "val": val_list}

    @property
    def class_names(self) -> dict[int, str]:
        """VOC's 20 classes, 1 … 20."""
        return dict(enumerate(VOC_CLASSES, start=1))

    @property
    def folds(self) -> Sequence[Sequence[int]]:
        """[1 … 5], [6 … 10], [11 … 15], [16 … 20]."""
        return [range(5 * i + 1, 5 * i + 6) for i in range(4)]

    @property
    def image_choices(self) -> dict[str, str]:
        """The list of the test."""
        return {"list": self.lists["val"]}

    def source(self, split: str) -> IndexMasks:
        """The images that the split's list names."""
        return voc_images(self.root, self.lists[split])

    def index_file(self, split: str) -> Path:
        """``mask_index/<list>.npz`` beside the data."""
        return self.root / INDEX_FOLDER / f"{self.lists[split]}.npz"


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
