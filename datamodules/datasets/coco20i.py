"""COCO-20i: COCO's 80 classes in four folds of twenty, as index masks drawn from the instances."""

import argparse
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from datamodules import files, prepare
from datamodules.datasets.counts import Prepared, prepared_folds
from datamodules.datasets.spec import PreparableDataset, Split
from datamodules.prepare.choices import CocoFolds, Crowds, Parts
from datamodules.prepare.remote import RemoteFile

if TYPE_CHECKING:
    from datamodules.datasets.protocols import Protocol
    from datamodules.files.sources import IndexMasks

Year = Literal[2014, 2017]
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
"""BAM's, on COCO 2014 with interleaved folds and whole instances."""
# fmt: off
COCO_CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis",
    "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed",
    "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven",
    "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)
# fmt: on


@dataclass(frozen=True)
class Coco20i(PreparableDataset):
    """COCO with its instances drawn as index masks; fold i holds the classes i + 1, i + 5, … or 20i + 1, ….

    Args:
        root: folder with ``train2014/``, ``val2014/`` and ``masks/``.
        year: 2014 or 2017.
        parts: of each instance, all polygons or (RePRI, FPTrans) the first only.
        crowds: instances marked as crowds are ignored (255), or background.
        fold_order: ``interleaved`` (almost all papers), or ``contiguous``: 20 in a row (SSP, MiningFSS).
    """

    image_size = 641
    scale = (0.8, 1.25)
    unused_choices = ("episodes",)

    root: Path = Path("data/coco")
    year: Year = 2014
    parts: Parts = "full"
    crowds: Crowds = "ignore"
    fold_order: CocoFolds = "interleaved"

    @property
    def class_names(self) -> dict[int, str]:
        """COCO's 80 classes in category order, 1 … 80."""
        return dict(enumerate(COCO_CLASSES, start=1))

    @property
    def folds(self) -> list[range]:
        """Four folds of twenty classes."""
        interleaved = self.fold_order == "interleaved"
        return [range(i + 1, 81, 4) if interleaved else range(20 * i + 1, 20 * i + 21) for i in range(4)]

    @property
    def image_choices(self) -> dict[str, Any]:
        """Which year's, and how the masks were drawn."""
        return {"year": self.year, "parts": self.parts, "crowds": self.crowds}

    @property
    def masks(self) -> Path:
        """The folder of the masks that are drawn in this mode."""
        return self.root / "masks" / f"{self.parts}-crowd-{self.crowds}"

    def images(self, split: Split, fold: int | None = 0) -> "IndexMasks":
        """The annotated images of the split; InputError if the images or the masks are missing."""
        part = f"{split}{self.year}"
        for folder in (self.root / part, self.masks / part):
            ready = "COCO as `qgnet prepare coco20i` makes it (the same --year, --parts and --crowds)"
            files.require_folder(folder, ready)
        names = files.read_lines(self.masks / f"{part}.txt")
        images = [self.root / part / f"{name}.jpg" for name in names]
        masks = [self.masks / part / f"{name}.png" for name in names]
        return files.IndexMasks(names, images, masks, self.class_names)

    def index_file(self, split: Split) -> Path:
        """``mask_index/<split>.npz`` beside the masks."""
        return self.masks / files.INDEX_FOLDER / f"{split}{self.year}.npz"

    def with_protocol(self, protocol: "Protocol", seed: int) -> "Coco20i":
        """With the protocol's folds."""
        assert protocol.coco_folds is not None
        return replace(self, fold_order=protocol.coco_folds)

    def test_episodes(self, protocol: "Protocol") -> int:
        """The protocol's number for COCO."""
        assert protocol.coco_episodes is not None
        return protocol.coco_episodes

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """How the masks are drawn."""
        parser.add_argument("--year", type=int, choices=get_args(Year), default=cls.year)
        parser.add_argument("--parts", choices=get_args(Parts), default=cls.parts, help="of each instance")
        parser.add_argument("--crowds", choices=get_args(Crowds), default=cls.crowds, help="what crowds become")

    def prepare(self, check_only: bool) -> Prepared:
        """COCO with its instances drawn as index masks."""
        skipped = prepare.Skipped()
        if not check_only:
            self._fetch()
            for split in ("train", "val"):
                file = self.root / "annotations" / f"instances_{split}{self.year}.json"
                skipped.join(prepare.draw_masks(file, self.masks, f"{split}{self.year}", self.parts, self.crowds))
        expected = COCO_EXPECTED if (self.year, self.parts) == (2014, "full") else {}
        return prepared_folds(self, expected, skipped.lines())

    def _fetch(self) -> None:
        """Images and annotations that are not there yet."""
        archives, annotations = COCO_FILES[self.year], self.root / "annotations"
        names = [f"instances_{split}{self.year}.json" for split in ("train", "val")]
        wanted = {f"annotations/{name}": annotations / name for name in names}
        if not all(path.exists() for path in wanted.values()):
            prepare.fetch_archive(archives["annotations"], self.root, wanted.get)
        for split in ("train", "val"):
            done = self.root / f"{split}{self.year}" / ".complete"
            if not done.exists():
                prepare.fetch_archive(archives[split], self.root, partial(inside, self.root, done.parent.name))
                done.touch()


def inside(root: Path, folder: str, name: str) -> Path | None:
    """Where a member of an archive goes that lies in this folder of it."""
    return root / name if name.startswith(f"{folder}/") else None
