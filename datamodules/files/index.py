"""The pixels of each class in each image: filters and draws of episodes depend on nothing else."""

import hashlib
import json
import os
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from datamodules.files.sources import LabelledImages, MaskFacts
from datamodules.files.writing import atomic_write
from qgnet.common.errors import InputError
from qgnet.common.pool import in_parts
from qgnet.common.terminal import warn

INDEX_FOLDER = "mask_index"
"""Beside a data set's masks."""
VERSION = 2
"""Another one when files are read in another way: indexes of earlier ones are built anew."""
PART = 64
"""Masks that a process reads in one go."""


@dataclass(frozen=True)
class MaskIndex:
    """Sizes and class areas of numbered images.

    Attributes:
        facts: size and {class number: pixels} of each image, without background and ignored pixels.
        bad: {image number: reason}; a bad image is left out and has no areas.
        whole: the images were decoded to their end.
        accepted: the user accepted to leave out the bad images (``qgnet prepare --skip-bad`` succeeded).
    """

    facts: Sequence[MaskFacts]
    bad: dict[int, str] = field(default_factory=dict)
    whole: bool = False
    accepted: bool = False

    @classmethod
    def build(cls, source: LabelledImages, title: str = "Reading masks", whole: bool = False) -> "MaskIndex":
        """Read every mask once, in several processes if there are many; ``whole``: and each image to its end."""
        return cls([NO_FACTS] * len(source.names), whole=whole).with_read(source, range(len(source.names)), title)

    def with_read(self, source: LabelledImages, numbers: Sequence[int], title: str) -> "MaskIndex":
        """This index with these images read (again)."""
        read = partial(read_facts, source, self.whole)
        found = [result for results in in_parts(read, numbers, PART, title, "mask") for result in results]
        facts, bad = list(self.facts), dict(self.bad)
        for i, result in zip(numbers, found, strict=True):
            bad.pop(i, None)
            facts[i] = NO_FACTS if isinstance(result, str) else result
            if isinstance(result, str):
                bad[i] = result
        return replace(self, facts=facts, bad=bad)

    @classmethod
    def cached(
        cls, source: LabelledImages, file: Path, title: str = "Reading masks", whole: bool = False
    ) -> "MaskIndex":
        """The index stored in ``file``; it is built and stored if it is missing or belongs to other masks.

        Images that were bad are looked at again, unless they have been accepted. Where the folder cannot be written
        to, the index goes to ``~/.cache/qgnet`` (or ``$XDG_CACHE_HOME/qgnet``).
        """
        digest = fingerprint(source)
        for place in locations(file):
            index = read_index(place, digest)
            if index is None or (whole and not index.whole):
                continue
            if not index.bad or index.accepted:
                return index
            again = index.with_read(source, sorted(index.bad), title)
            if again.bad != index.bad:
                again.save(file, digest)
            return again
        index = cls.build(source, title, whole=whole)
        index.save(file, digest)
        return index

    def save(self, file: Path, digest: str) -> None:
        """Write it to ``file``, or else to the user's cache; a warning if neither can be written."""
        reasons = []
        for place in locations(file):
            try:
                write_index(self, place, digest)
            except OSError as error:
                reasons.append(f"{place}: {error.strerror}")
            else:
                return
        warn(f"The masks are read at each start, since their index cannot be stored ({'; '.join(reasons)}).")

    def raise_bad(self, remedy: str) -> None:
        """InputError with the first bad image and the number of others, if there are any."""
        if self.bad:
            first = next(iter(self.bad.values()))
            others = f" ({len(self.bad) - 1} more file(s) are bad.)" if len(self.bad) > 1 else ""
            raise InputError(f"{first}{others}{remedy}")

    def images_of(self, class_id: int, min_area: int) -> list[int]:
        """Images of which the class covers at least ``min_area`` pixels."""
        return [i for i, facts in enumerate(self.facts) if facts.areas.get(class_id, 0) >= min_area]

    def with_any(self, classes: Collection[int], min_area: int = 1) -> list[int]:
        """Images of which any of the classes covers at least ``min_area`` pixels."""
        wanted = set(classes)
        return [i for i, f in enumerate(self.facts) if any(f.areas[c] >= min_area for c in wanted & f.areas.keys())]


NO_FACTS = MaskFacts(0, 0, {})
"""Of an image that is bad, or not read yet."""


def read_facts(source: LabelledImages, whole: bool, numbers: Sequence[int]) -> list[MaskFacts | str]:
    """Facts of these images, or the reason why one cannot be used; ``whole`` also decodes each to its end."""
    found: list[MaskFacts | str] = []
    for i in numbers:
        try:
            found.append(source.facts(i, whole))
        except InputError as error:
            found.append(str(error))
    return found


def fingerprint(source: LabelledImages) -> str:
    """Hex digest of names, sizes and modification times of all files; it changes when a mask changes."""
    digest = hashlib.sha256(f"{VERSION} {sorted(getattr(source, 'classes', ()))}".encode())
    for i, name in enumerate(source.names):
        digest.update(os.fsencode(name))
        for kind, path in source.files(i).items():
            digest.update(f"\0{kind} ".encode() + os.fsencode(os.sep.join(os.fspath(path).split(os.sep)[-2:])))
            try:
                stat = os.stat(path)
                digest.update(f"\0{stat.st_size} {stat.st_mtime_ns}".encode())
            except OSError:
                digest.update(b"\0missing")
    return digest.hexdigest()


def locations(file: Path) -> list[Path]:
    """Possible places of an index: ``file``, or the user's cache if there is a home folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if cache.startswith("~"):  # nobody's home
        return [file]
    return [file, Path(cache) / "qgnet" / f"{hashlib.sha256(os.fsencode(file.resolve())).hexdigest()[:16]}-{file.name}"]


def read_index(file: Path, digest: str) -> MaskIndex | None:
    """The index in ``file`` if it is of this fingerprint."""
    try:
        with np.load(file) as stored:
            if str(stored["fingerprint"]) != digest:
                return None
            sizes, counts = stored["sizes"].tolist(), stored["counts"].tolist()
            classes, pixels = stored["classes"].tolist(), stored["pixels"].tolist()
            bad = {int(i): reason for i, reason in json.loads(str(stored["bad"])).items()}
            whole, accepted = bool(stored["whole"]), bool(stored["accepted"])
        facts, start = [], 0
        for (height, width), count in zip(sizes, counts, strict=True):
            stop = start + count
            facts.append(MaskFacts(height, width, dict(zip(classes[start:stop], pixels[start:stop], strict=True))))
            start = stop
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):  # none yet, or none of ours: built anew
        return None
    return MaskIndex(facts, bad, whole, accepted)


def write_index(index: MaskIndex, file: Path, digest: str) -> None:
    """Write the index, the file appearing by rename; OSError if it cannot be written."""
    with atomic_write(file) as part, open(part, "wb") as stream:
        np.savez(
            stream,
            fingerprint=digest,
            sizes=np.array([(f.height, f.width) for f in index.facts], np.int32),
            counts=np.array([len(f.areas) for f in index.facts], np.int32),
            classes=np.array([c for f in index.facts for c in f.areas], np.int32),
            pixels=np.array([p for f in index.facts for p in f.areas.values()], np.int32),
            bad=json.dumps(index.bad),
            whole=index.whole,
            accepted=index.accepted,
        )
