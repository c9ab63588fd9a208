"""PASCAL-5i: VOC 2012 with SBD's masks, 20 classes in four folds of five."""

import os
from collections.abc import Sequence
from pathlib import Path

from datamodules.base import INDEX_FOLDER, EpisodeDataModule
from datamodules.files.finding import find_files
from datamodules.files.lists import read_list
from datamodules.protocols import Protocol
from datamodules.sources import IndexMasks, require_folder

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
        fold: which classes are novel, 0 … 3.
        shots: supports per episode, K.
        protocol: a name and single choices that replace its own, e.g. ``--data.protocol.name hsnet``.
        seed: of the episodes and their augmentation; null: the protocol's first.
        episodes: number of validation and of test episodes; null: the protocol's.
        batch_size: episodes per process and step.
        num_workers: loader processes.
        image_size: side of the square that the network sees, in pixels, of the form 8n + 1.
        min_class_area: pixels a class must cover in an image to count there.
        scale: range of the random scaling in training.
        train_episodes: episodes per training epoch; null: one per training image.
        episode_file: a manifest of test episodes written by ``qgnet episodes``; null draws them.
        negative: share of episodes, 0 … 1, whose supports show a class that is not in the query.
        inverted: share of the other training episodes, 0 … 1, that ask for all but the object.
        train_list: list file of the training images, without ``.txt``.
        val_list: list file of the validation and test images, without ``.txt``.
    """

    def __init__(
        self,
        root: str = "data/pascal",
        fold: int = 0,
        shots: int = 1,
        protocol: Protocol = Protocol(),  # noqa: B008  (frozen)
        seed: int | None = None,
        episodes: int | None = None,
        batch_size: int = 4,
        num_workers: int = 4,
        image_size: int = 473,
        min_class_area: int = 2048,
        scale: tuple[float, float] = (0.9, 1.1),
        train_episodes: int | None = None,
        episode_file: str | None = None,
        negative: float = 0.0,
        inverted: float = 0.0,
        train_list: str = "train",
        val_list: str = "val",
    ) -> None:
        super().__init__(
            fold,
            shots,
            protocol,
            seed,
            episodes,
            batch_size,
            num_workers,
            image_size,
            min_class_area,
            scale,
            train_episodes,
            episode_file,
            negative,
            inverted,
        )
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
