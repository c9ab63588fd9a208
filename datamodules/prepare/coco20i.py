"""COCO-20i: downloaded, converted, indexed and counted."""

from functools import partial
from pathlib import Path

from datamodules.files.index import INDEX_FOLDER
from datamodules.layouts import Crowds, Parts
from datamodules.layouts.coco20i import coco_folds, coco_images, mask_folder
from datamodules.prepare.annotations import Skipped
from datamodules.prepare.coco_masks import draw_masks
from datamodules.prepare.counts import DOWNLOADS, Indexed, Prepared, fold_counts
from datamodules.prepare.download import RemoteFile, download, extract

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


COCO_EXPECTED = {
    "training images, dropped": (21917, 41809, 43045, 44614),
    "test pairs": (35783, 17912, 14563, 14315),
    "test images": (26052, 15305, 13138, 12640),
}


def prepare_coco20i(root: Path, check_only: bool, year: int, parts: Parts, crowds: Crowds) -> Prepared:
    """COCO with its instances drawn as index masks, indexed and counted; what is there is not done again.

    Raises:
        InputError: if something is missing and cannot be had, or (``check_only``) is missing at all.
    """
    masks = root / "masks" / mask_folder(parts, crowds)
    skipped = Skipped()
    if not check_only:
        fetch_coco20i(root, year)
        for split in ("train", "val"):
            file = root / "annotations" / f"instances_{split}{year}.json"
            skipped.join(draw_masks(file, masks, f"{split}{year}", parts, crowds))
    sources = {split: coco_images(root, f"{split}{year}", masks) for split in ("train", "val")}
    indexes = {
        split: Indexed.of(source, masks / INDEX_FOLDER / f"{split}{year}.npz", split)
        for split, source in sources.items()
    }
    known = COCO_EXPECTED if (year, parts) == (2014, "full") else {}
    train, val = indexes["train"].index, indexes["val"].index
    counts = fold_counts(train, val, coco_folds(interleaved=True), range(1, 81), known)
    return Prepared(counts, indexes, skipped.lines())


def fetch_coco20i(root: Path, year: int) -> None:
    """Images and annotations that are not there yet."""
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
