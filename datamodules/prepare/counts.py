"""Makes data sets ready: downloads what is missing, converts it, indexes it, and counts."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from datamodules.files.index import MaskIndex, fingerprint
from datamodules.files.sources import LabelledImages

MIN_AREA = 2048
"""Pixels, 2 · 32 · 32: PFENet's rule."""
DOWNLOADS = "downloads"


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

    def bad_files(self) -> dict[str, str]:
        """{split: image → why it is bad} as one flat table."""
        return {
            f"{split} {indexed.source.names[i]}": reason
            for split, indexed in self.indexes.items()
            for i, reason in indexed.index.bad.items()
        }

    def accept(self, accepted: bool) -> None:
        """Record whether later commands may go on without the bad images."""
        for indexed in self.indexes.values():
            if indexed.index.accepted != accepted:
                kept = replace(indexed.index, accepted=accepted)
                kept.save(indexed.file, fingerprint(indexed.source))


# Images with a base class of at least 2,048 px by PFENet's rule; those left when images that show a novel class are
# dropped (BAM); test pairs of image and class, and their images (BAM).
# BAM's, on COCO 2014 with interleaved folds


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
