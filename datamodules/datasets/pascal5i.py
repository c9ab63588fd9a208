"""PASCAL-5i: VOC 2012 with SBD's masks, 20 classes in four folds of five."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules import files, prepare
from datamodules.datasets.counts import Prepared, prepared_folds
from datamodules.datasets.spec import PreparableDataset, Split
from datamodules.files.finding import find_files
from datamodules.prepare.remote import DOWNLOADS, RemoteFile
from qgnet.common.errors import InputError
from qgnet.common.pool import processes
from qgnet.common.progress import progress

if TYPE_CHECKING:
    from datamodules.files.sources import IndexMasks

VOC = RemoteFile(
    "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd"
)
VOC_FOLDER = "VOCdevkit/VOC2012"
"""In its archive."""
SBD = RemoteFile(
    "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
    "82b4d87ceb2ed10f6038a1cba92111cb",
)
PASCAL_LISTS = Path(__file__).parent / "lists" / "pascal"
PASCAL_EXPECTED = {
    "training images, kept": (4760, 4588, 4097, 5108),
    "training images, dropped": (4208, 3726, 2752, 4510),
    "test pairs": (365, 467, 734, 357),
    "test images": (364, 445, 592, 336),
}
IMAGES = "JPEGImages"
MASKS = "SegmentationClassAug"
LISTS = "ImageSets/Segmentation"
# fmt: off
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on


@dataclass(frozen=True)
class Pascal5i(PreparableDataset):
    """A folder in VOC's layout; fold i holds the classes 5i + 1 … 5i + 5.

    Args:
        root: folder with ``JPEGImages/``, ``SegmentationClassAug/`` and ``ImageSets/Segmentation/``.
        train_list: list file of the training images, without ``.txt``.
        val_list: list file of the validation and test images, without ``.txt``.
    """

    root: Path = Path("data/pascal")
    train_list: str = "train"
    val_list: str = "val"

    @property
    def class_names(self) -> dict[int, str]:
        """VOC's 20 classes, 1 … 20."""
        return dict(enumerate(VOC_CLASSES, start=1))

    @property
    def folds(self) -> list[range]:
        """[1 … 5], [6 … 10], [11 … 15], [16 … 20]."""
        return [range(5 * i + 1, 5 * i + 6) for i in range(4)]

    @property
    def image_choices(self) -> dict[str, str]:
        """The list of the test."""
        return {"list": self.val_list}

    def images(self, split: Split, fold: int | None = 0) -> "IndexMasks":
        """Those of the split's list; InputError if a folder or the list is missing, or the list is empty."""
        listing = self.root / LISTS / f"{self._list(split)}.txt"
        for path in (self.root, self.root / IMAGES, self.root / MASKS):
            files.require_folder(
                path,
                f"the VOC layout, {IMAGES}/*.jpg, {MASKS}/*.png and {LISTS}/{listing.name}, as "
                "`qgnet prepare pascal5i` makes it",
            )
        names = files.read_list(listing)
        images = files_of(self.root / IMAGES, names, ".jpg")
        masks = files_of(self.root / MASKS, names, ".png")
        return files.IndexMasks(names, images, masks, self.class_names)

    def index_file(self, split: Split) -> Path:
        """``mask_index/<list>.npz`` beside the data."""
        return self.root / files.INDEX_FOLDER / f"{self._list(split)}.npz"

    def _list(self, split: Split) -> str:
        return self.train_list if split == "train" else self.val_list

    def prepare(self, check_only: bool) -> Prepared:
        """VOC 2012 and SBD in VOC layout under ``root``."""
        if not check_only:
            fetch(self.root)
        return prepared_folds(self, PASCAL_EXPECTED)


def files_of(folder: Path, names: Sequence[str], ending: str) -> list[Path]:
    """A file per name: with VOC's ending, or else with another."""
    found = set(find_files(folder, deep=False).files)
    others = {os.path.splitext(file)[0]: file for file in found}
    return [
        folder / (f"{name}{ending}" if f"{name}{ending}" in found else others.get(name, f"{name}{ending}"))
        for name in names
    ]


def fetch(root: Path) -> None:
    """Lists, images and masks; archives go to ``downloads/`` and may be removed afterwards."""
    ids = [name for split in ("train", "val") for name in write_list(root, split)]
    images, masks = (absent(root / folder, ids, end) for folder, end in ((IMAGES, "jpg"), (MASKS, "png")))
    if images or masks:
        targets = {f"{VOC_FOLDER}/{IMAGES}/{name}.jpg": root / IMAGES / f"{name}.jpg" for name in images}
        targets |= {f"{VOC_FOLDER}/SegmentationClass/{name}.png": root / MASKS / f"{name}.png" for name in masks}
        prepare.fetch_archive(VOC, root, targets.get)
    if masks := absent(root / MASKS, ids, "png"):  # those that only SBD has
        mats = {f"benchmark_RELEASE/dataset/cls/{n}.mat": root / DOWNLOADS / "sbd" / f"{n}.mat" for n in masks}
        prepare.fetch_archive(SBD, root, mats.get)
        there = [path for path in mats.values() if path.exists()]
        with processes() as pool:
            targets_ = [root / MASKS / f"{path.stem}.png" for path in there]
            list(progress(pool.map(mat_to_png, there, targets_, chunksize=32), "SBD masks", len(there), unit="mask"))
    for folder, end in ((IMAGES, "jpg"), (MASKS, "png")):
        if left := absent(root / folder, ids, end):
            raise InputError(
                f"{len(left)} file(s) are in neither archive, e.g. {root / folder / left[0]}.{end}. Remove "
                f"{root / DOWNLOADS} and run this again, or add the files."
            )


def absent(folder: Path, names: Sequence[str], end: str) -> list[str]:
    """Which of the files are not there."""
    return [name for name in names if not (folder / f"{name}.{end}").exists()]


def write_list(root: Path, split: str) -> list[str]:
    """Write the list that all published work shares; InputError if a different one exists."""
    shipped = (PASCAL_LISTS / f"{split}.txt").read_text()
    target = root / LISTS / f"{split}.txt"
    if target.exists() and (found := files.read_list(target)) != shipped.split():
        raise InputError(
            f"{target} is another list ({len(found)} ids; expected the {len(shipped.split())} of "
            "PFENet's). Move it away, or choose another --root."
        )
    if not target.exists():
        with files.atomic_write(target) as part:
            part.write_text(shipped)
    return shipped.split()


def mat_to_png(mat: Path, png: Path) -> None:
    """One of SBD's segmentations as an index mask, written atomically."""
    from scipy.io import loadmat  # noqa: PLC0415  (takes a second, and is needed only where masks are missing)

    files.write_plain_png(png, loadmat(mat)["GTcls"][0]["Segmentation"][0].astype("uint8"))
