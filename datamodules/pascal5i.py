"""PASCAL-5i: VOC 2012 with SBD's masks, 20 classes in four folds of five."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.episodic import EpisodeDataModule
from datamodules.files.index import INDEX_FOLDER
from datamodules.files.sources import IndexMasks
from datamodules.layouts.pascal5i import VOC_CLASSES, voc_folds, voc_images


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
        return voc_folds()

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
