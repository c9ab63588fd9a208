"""PASCAL-5i: VOC 2012 and SBD, downloaded, converted, indexed and counted."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules.files.index import INDEX_FOLDER
from datamodules.files.lists import read_list
from datamodules.files.png import write_plain_png
from datamodules.files.writing import atomic_write
from datamodules.layouts.pascal5i import IMAGES, LISTS, MASKS, VOC_CLASSES, voc_folds, voc_images
from datamodules.prepare.counts import DOWNLOADS, Indexed, Prepared, fold_counts
from datamodules.prepare.download import RemoteFile, download, extract
from qgnet.common.errors import InputError
from qgnet.common.pool import processes
from qgnet.common.progress import progress

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


def prepare_pascal5i(root: Path, check_only: bool) -> Prepared:
    """VOC 2012 and SBD in VOC layout under ``root``, indexed and counted; what is there is not done again.

    Raises:
        InputError: if something is missing and cannot be had, or (``check_only``) is missing at all.
    """
    if not check_only:
        fetch_pascal5i(root)
    sources = {split: voc_images(root, split) for split in ("train", "val")}
    indexes = {
        split: Indexed.of(source, root / INDEX_FOLDER / f"{split}.npz", split) for split, source in sources.items()
    }
    train, val = indexes["train"].index, indexes["val"].index
    classes = range(1, len(VOC_CLASSES) + 1)
    return Prepared(fold_counts(train, val, voc_folds(), classes, PASCAL_EXPECTED), indexes)


def fetch_pascal5i(root: Path) -> None:
    """Lists, images and masks; archives go to ``downloads/`` and may be removed afterwards."""
    ids = [name for split in ("train", "val") for name in write_list(root, split)]
    images, masks = (absent(root / folder, ids, end) for folder, end in ((IMAGES, "jpg"), (MASKS, "png")))
    if images or masks:
        targets = {f"{VOC_FOLDER}/{IMAGES}/{name}.jpg": root / IMAGES / f"{name}.jpg" for name in images}
        targets |= {f"{VOC_FOLDER}/SegmentationClass/{name}.png": root / MASKS / f"{name}.png" for name in masks}
        extract(download(VOC, root / DOWNLOADS), targets.get)
    if masks := absent(root / MASKS, ids, "png"):  # those that only SBD has
        mats = {f"benchmark_RELEASE/dataset/cls/{n}.mat": root / DOWNLOADS / "sbd" / f"{n}.mat" for n in masks}
        extract(download(SBD, root / DOWNLOADS), mats.get)
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
    """Put the list that all published work shares into its place; InputError if another one lies there."""
    shipped = (PASCAL_LISTS / f"{split}.txt").read_text()
    target = root / LISTS / f"{split}.txt"
    if target.exists() and (found := read_list(target)) != shipped.split():
        raise InputError(
            f"{target} is another list ({len(found)} ids; expected the {len(shipped.split())} of "
            "PFENet's). Move it away, or choose another --root."
        )
    if not target.exists():
        with atomic_write(target) as part:
            part.write_text(shipped)
    return shipped.split()


def mat_to_png(mat: Path, png: Path) -> None:
    """One of SBD's segmentations as an index mask, which appears by rename."""
    from scipy.io import loadmat  # noqa: PLC0415  (takes a second, and is needed only where masks are missing)

    mask = np.asarray(loadmat(mat)["GTcls"][0]["Segmentation"][0], np.uint8)
    write_plain_png(png, mask)
