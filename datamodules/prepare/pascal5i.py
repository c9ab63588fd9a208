"""PASCAL-5i: VOC 2012 and SBD, downloaded, converted, indexed and counted."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from torchvision.datasets import SBDataset
from torchvision.datasets.voc import DATASET_YEAR_DICT
from tqdm import tqdm

from datamodules.files.lists import read_list
from datamodules.files.png import write_plain_png
from datamodules.pascal5i import IMAGES, LISTS, MASKS, Pascal5iDataModule, voc_images
from datamodules.prepare.counts import DOWNLOADS, Indexed, Prepared, fold_counts
from datamodules.prepare.download import RemoteFile, download, extract
from qgnet.common.errors import InputError
from qgnet.common.pool import processes

VOC = RemoteFile(DATASET_YEAR_DICT["2012"]["url"], DATASET_YEAR_DICT["2012"]["md5"])


SBD = RemoteFile(SBDataset.url, SBDataset.md5)


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
    data = Pascal5iDataModule(str(root))
    indexes = {split: Indexed.of(source, data.index_file(split), split) for split, source in sources.items()}
    folds = [list(fold) for fold in data.folds]
    counts = fold_counts(indexes["train"].index, indexes["val"].index, folds, data.class_names, PASCAL_EXPECTED)
    return Prepared(counts, indexes)


def fetch_pascal5i(root: Path) -> None:
    """Lists, photographs and masks; archives go to ``downloads/`` and may be removed afterwards."""
    ids = [name for split in ("train", "val") for name in write_list(root, split)]
    images, masks = (absent(root / folder, ids, end) for folder, end in ((IMAGES, "jpg"), (MASKS, "png")))
    if images or masks:
        base = DATASET_YEAR_DICT["2012"]["base_dir"]
        targets = {f"{base}/{IMAGES}/{name}.jpg": root / IMAGES / f"{name}.jpg" for name in images}
        targets |= {f"{base}/SegmentationClass/{name}.png": root / MASKS / f"{name}.png" for name in masks}
        extract(download(VOC, root / DOWNLOADS), targets.get)
    if masks := absent(root / MASKS, ids, "png"):  # those that only SBD has
        mats = {f"benchmark_RELEASE/dataset/cls/{n}.mat": root / DOWNLOADS / "sbd" / f"{n}.mat" for n in masks}
        extract(download(SBD, root / DOWNLOADS), mats.get)
        there = [path for path in mats.values() if path.exists()]
        with processes() as pool:
            targets_ = [root / MASKS / f"{path.stem}.png" for path in there]
            list(tqdm(pool.map(mat_to_png, there, targets_, chunksize=32), "SBD masks", len(there), unit="mask"))
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
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        part.write_text(shipped)
        part.replace(target)
    return shipped.split()


def mat_to_png(mat: Path, png: Path) -> None:
    """One of SBD's segmentations as an index mask, which appears by rename."""
    mask = np.asarray(loadmat(mat)["GTcls"][0]["Segmentation"][0], np.uint8)
    write_plain_png(png, mask)
