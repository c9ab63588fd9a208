"""The result of a preparation: indexes of all masks, and counts beside those of the literature."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from datamodules import files
from datamodules.datasets.spec import DatasetSpec, Split

if TYPE_CHECKING:
    from datamodules.files.index import MaskIndex

MIN_AREA = 2048
"""Pixels, 2 · 32 · 32: PFENet's rule."""


class Count(NamedTuple):
    """A count in the data and in the literature (None if it is not known)."""

    what: str
    found: int
    expected: int | None = None


@dataclass(frozen=True)
class Indexed:
    """Images, the index of their masks, made from whole files, and its file."""

    images: Any
    file: Path
    index: "MaskIndex"

    @classmethod
    def of(cls, dataset: DatasetSpec, split: Split, title: str) -> "Indexed":
        """The index that is stored, or built and stored now."""
        images, file = dataset.images(split), dataset.index_file(split)
        assert file is not None
        return cls(images, file, files.MaskIndex.cached(images, file, f"Reading {title}", whole=True))


class Prepared(NamedTuple):
    """The counts of a preparation, {split: its index}, and notices, a line each."""

    counts: list[Count]
    indexes: dict[str, Indexed]
    notices: Sequence[str] = ()

    def bad_files(self) -> dict[str, str]:
        """{split and image: why it is bad}."""
        return {
            f"{split} {indexed.images.names[i]}": reason
            for split, indexed in self.indexes.items()
            for i, reason in indexed.index.bad.items()
        }

    def accept(self, accepted: bool) -> None:
        """Record whether later commands may go on without the bad images."""
        for indexed in self.indexes.values():
            if indexed.index.accepted != accepted:
                replace(indexed.index, accepted=accepted).save(indexed.file, files.fingerprint(indexed.images))


def prepared_folds(
    dataset: DatasetSpec, expected: Mapping[str, tuple[int, ...]], notices: Sequence[str] = ()
) -> Prepared:
    """Both splits indexed, and counted for each fold."""
    train, val = (Indexed.of(dataset, split, split) for split in ("train", "val"))
    counts = fold_counts(dataset, train.index, val.index, expected)
    return Prepared(counts, {"train": train, "val": val}, notices)


def fold_counts(
    dataset: DatasetSpec, train: "MaskIndex", test: "MaskIndex", expected: Mapping[str, tuple[int, ...]]
) -> list[Count]:
    """The counts of the literature, for each fold.

    Images with a base class of at least 2,048 px by PFENet's rule; those left when images that show a novel class are
    dropped (BAM); test pairs of image and class, and their images (BAM).
    """
    counts = []
    for fold, novel in enumerate(dataset.folds):
        kept = set(train.with_any(dataset.base_classes(fold), MIN_AREA))
        found = {
            "training images, kept": len(kept),
            "training images, dropped": len(kept - set(train.with_any(novel))),
            "test pairs": sum(len(test.images_of(c, MIN_AREA)) for c in novel),
            "test images": len(test.with_any(novel, MIN_AREA)),
        }
        for what, number in found.items():
            counts.append(Count(f"fold {fold}: {what}", number, expected[what][fold] if what in expected else None))
    return counts
