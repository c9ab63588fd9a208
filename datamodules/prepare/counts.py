"""Makes data sets ready: downloads what is missing, converts it, indexes it, and counts."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.io import loadmat
from torchvision.datasets import SBDataset
from torchvision.datasets.voc import DATASET_YEAR_DICT
from tqdm import tqdm

from datamodules.base import INDEX_FOLDER
from datamodules.coco20i import Crowds, Parts, coco_folds, coco_images, draw_masks, mask_folder
from datamodules.files.index import MaskIndex, fingerprint
from datamodules.files.lists import read_list
from datamodules.files.png import write_plain_png
from datamodules.files.sources import LabelledImages
from datamodules.folder import check_classes, folder_classes, folder_images, notices
from datamodules.fss1000 import SPLITS, class_folders, fss_images, odd_mask, split_classes, split_file
from datamodules.pascal5i import IMAGES, LISTS, MASKS, Pascal5iDataModule, voc_images
from datamodules.prepare.download import RemoteFile, download, extract
from qgnet.common.errors import InputError
from qgnet.common.pool import processes

MIN_AREA = 2048
"""Pixels, 2 · 32 · 32: PFENet's rule."""
DOWNLOADS = "downloads"
VOC = RemoteFile(DATASET_YEAR_DICT["2012"]["url"], DATASET_YEAR_DICT["2012"]["md5"])
SBD = RemoteFile(SBDataset.url, SBDataset.md5)
PASCAL_LISTS = Path(__file__).parent / "lists" / "pascal"
COCO_URL = "http://images.cocodataset.org"
COCO_FILES = {
    2014: {
        "train": RemoteFile(f"{COCO_URL}/zips/train2014.zip", "0da8c0bd3d6becc4dcb32757491aca88"),
        "val": RemoteFile(f"{COCO_URL}/zips/val2014.zip", "a3d79f5ed8d289b7a7554ce06a5782b3"),
        "annotations": RemoteFile(
            f"{COCO_URL}/annotations/annotations_trainval2014.zip", "0a379cfc70b0e71301e0f377548639bd"
        ),
    },
    2017: {
        "train": RemoteFile(f"{COCO_URL}/zips/train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2"),
        "val": RemoteFile(f"{COCO_URL}/zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80"),
        "annotations": RemoteFile(
            f"{COCO_URL}/annotations/annotations_trainval2017.zip", "f4bbac642086de4f52a3fdda2de5fa2c"
        ),
    },
}


class Count(NamedTuple):
    """One line of the table that is printed at the end.

    Attributes:
        what: is counted.
        found: in the data.
        expected: by the literature; None where nothing is known.
    """

    what: str
    found: int
    expected: int | None = None


@dataclass(frozen=True)
class Indexed:
    """An index and where it is kept.

    Attributes:
        source: the images.
        file: of the index.
        index: of their masks, made from whole files.
    """

    source: LabelledImages
    file: Path
    index: MaskIndex

    @classmethod
    def of(cls, source: LabelledImages, file: Path, split: str) -> "Indexed":
        """The index in the file, or built and kept there."""
        return cls(source, file, MaskIndex.cached(source, file, f"Reading {split}", whole=True))


class Prepared(NamedTuple):
    """Result of a preparation.

    Attributes:
        counts: what was counted.
        indexes: {list or split: its index}.
        notices: what is unusual, a line each.
    """

    counts: list[Count]
    indexes: dict[str, Indexed]
    notices: Sequence[str] = ()

    def accept(self, accepted: bool) -> None:
        """Record whether later commands may go on without the bad images."""
        for indexed in self.indexes.values():
            if indexed.index.accepted != accepted:
                kept = replace(indexed.index, accepted=accepted)
                kept.keep(indexed.file, fingerprint(indexed.source))


# Images with a base class of at least 2,048 px by PFENet's rule; those left when images that show a novel class are
# dropped (BAM); test pairs of image and class, and their images (BAM).
PASCAL_EXPECTED = {
    "training images, kept": (4760, 4588, 4097, 5108),
    "training images, dropped": (4208, 3726, 2752, 4510),
    "test pairs": (365, 467, 734, 357),
    "test images": (364, 445, 592, 336),
}
# BAM's, on COCO 2014 with interleaved folds
COCO_EXPECTED = {
    "training images, dropped": (21917, 41809, 43045, 44614),
    "test pairs": (35783, 17912, 14563, 14315),
    "test images": (26052, 15305, 13138, 12640),
}
FSS_EXPECTED = {"train": 520, "val": 240, "test": 240}


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


def fold_counts(
    train: MaskIndex,
    test: MaskIndex,
    folds: Sequence[Sequence[int]],
    classes: Collection[int],
    expected: Mapping[str, tuple[int, ...]],
) -> list[Count]:
    """What the literature counts, for each fold."""
    counts = []
    for fold, novel in enumerate(folds):
        base = [c for c in classes if c not in novel]
        kept = set(train.with_any(base, MIN_AREA))
        found = {
            "training images, kept": len(kept),
            "training images, dropped": len(kept - set(train.with_any(novel))),
            "test pairs": sum(len(test.images_of(c, MIN_AREA)) for c in novel),
            "test images": len(test.with_any(novel, MIN_AREA)),
        }
        for what, number in found.items():
            counts.append(Count(f"fold {fold}: {what}", number, expected[what][fold] if what in expected else None))
    return counts


def prepare_coco20i(root: Path, check_only: bool, year: int, parts: Parts, crowds: Crowds) -> Prepared:
    """COCO with its instances drawn as index masks, indexed and counted; what is there is not done again.

    Raises:
        InputError: if something is missing and cannot be had, or (``check_only``) is missing at all.
    """
    masks = root / "masks" / mask_folder(parts, crowds)
    if not check_only:
        fetch_coco20i(root, year)
        for split in ("train", "val"):
            draw_masks(root / "annotations" / f"instances_{split}{year}.json", masks, f"{split}{year}", parts, crowds)
    sources = {split: coco_images(root, f"{split}{year}", masks) for split in ("train", "val")}
    indexes = {
        split: Indexed.of(source, masks / INDEX_FOLDER / f"{split}{year}.npz", split)
        for split, source in sources.items()
    }
    known = COCO_EXPECTED if (year, parts) == (2014, "full") else {}
    train, val = indexes["train"].index, indexes["val"].index
    return Prepared(fold_counts(train, val, coco_folds(interleaved=True), range(1, 81), known), indexes)


def fetch_coco20i(root: Path, year: int) -> None:
    """Photographs and annotations that are not there yet."""
    files = COCO_FILES[year]
    splits = [f"{split}{year}" for split in ("train", "val")]
    if any(not (root / "annotations" / f"instances_{split}.json").exists() for split in splits):
        wanted = {f"annotations/instances_{s}.json": root / "annotations" / f"instances_{s}.json" for s in splits}
        extract(download(files["annotations"], root / DOWNLOADS), wanted.get)
    for split in splits:
        done = root / split / ".complete"
        if not done.exists():
            extract(download(files[split.removesuffix(str(year))], root / DOWNLOADS), partial(inside, root, split))
            done.touch()


def inside(root: Path, folder: str, name: str) -> Path | None:
    """Where a member of an archive goes that lies in this folder of it."""
    return root / name if name.startswith(f"{folder}/") else None


def prepare_fss1000(root: Path) -> Prepared:
    """Check, index and count FSS-1000; it is handed out by its authors through a file host and cannot be downloaded.

    Raises:
        InputError: if folders or lists are missing; says where to get them.
    """
    if not root.is_dir() or any(not split_file(root, split).is_file() for split in FSS_EXPECTED):
        raise InputError(
            f"{root} is not laid out as FSS-1000. The data cannot be downloaded by a program: get the archive by the "
            "link on https://github.com/HKUSTCV/FSS-1000 and unpack it so that "
            f"{root}/<class>/1.jpg and 1.png exist; then write the names of the classes of each split, one per line, "
            f"to {root}/{SPLITS}/train.txt (520), val.txt (240) and test.txt (240). HSNet's repository has these "
            "lists in data/splits/fss/ (trn.txt, val.txt, tst.txt)."
        )
    number = {name: i for i, name in enumerate(class_folders(root), start=1)}
    counts = [Count("classes", len(number), sum(FSS_EXPECTED.values()))]
    indexes: dict[str, Indexed] = {}
    pairs: list[tuple[Path, ...]] = []
    for split, classes in FSS_EXPECTED.items():
        names = split_classes(root, split, number)
        source = fss_images(root, {number[name]: name for name in names})
        indexes[split] = Indexed.of(source, root / INDEX_FOLDER / f"{split}.npz", split)
        pairs += [(image, *masks.values()) for image, masks in zip(source.images, source.masks, strict=True)]
        counts += [
            Count(f"{split}: classes", len(names), classes),
            Count(f"{split}: images", len(source.names), 10 * classes),
        ]
    with processes() as pool:
        odd = pool.map(odd_mask, *zip(*pairs, strict=True), chunksize=64)
        found = list(tqdm(odd, "Looking for odd masks", len(pairs), unit="mask", leave=False))
    return Prepared(counts, indexes, [line for line in found if line])


def prepare_folder(root: Path, mask_suffix: str) -> Prepared:
    """Check, index and count a folder of your own."""
    classes = folder_classes(root)
    source = folder_images(root, mask_suffix)
    indexed = Indexed.of(source, root / INDEX_FOLDER / "folder.npz", "masks")
    check_classes(source, indexed.index)
    counts = [Count("images", len(source.names))]
    counts += [Count(f"images with {name}", len(indexed.index.images_of(c, 1))) for c, name in classes.items()]
    return Prepared(counts, {"folder": indexed}, notices(source, indexed.index, classes))


def bad_files(prepared: Prepared) -> dict[str, str]:
    """{split: image → why it is bad} as one flat table."""
    return {
        f"{split} {indexed.source.names[i]}": reason
        for split, indexed in prepared.indexes.items()
        for i, reason in indexed.index.bad.items()
    }
