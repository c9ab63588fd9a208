"""What is read from a tool's labels: images with their masks, and what was skipped."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from datamodules.files.classes import reserved_number
from datamodules.files.finding import normalized_name
from datamodules.files.sources import IGNORE, Array
from qgnet.common.errors import InputError

NAMED = 5
"""So many ids are named in a message."""


class AnnotatedImage(NamedTuple):
    """An image, its file or what the file held, and its mask (H, W) of class numbers; None if it has no label."""

    name: str
    image: Path | bytes
    ending: str
    mask: Array | None


class Skipped:
    """What could not be used, with the names of it, by reason, and further notes."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = defaultdict(list)
        self.notes: list[str] = []

    def add(self, reason: str, name: object) -> None:
        """One more."""
        self.names[reason].append(str(name))

    def join(self, others: "Skipped") -> None:
        """Those of another part of the work, too."""
        for reason, names in others.names.items():
            self.names[reason] += names

    def lines(self) -> list[str]:
        """The notes, and a line per reason, with how many there are and the first of them."""
        return self.notes + [
            f"{len(names)} skipped, {reason}: {', '.join(names[:NAMED])}{', …' if len(names) > NAMED else ''}"
            for reason, names in self.names.items()
        ]


def flat_name(path: str) -> str:
    """A name without folders for an image in folders."""
    return normalized_name(str(PurePosixPath(path).with_suffix("")).replace("/", "_"))


def read_json(path: Path) -> Any:
    """A JSON file's content; InputError if it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}). Export it again.") from None


def json_files(folder: Path) -> list[Path]:
    """All JSON files under a folder, sorted, hidden ones left out."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() == ".json")
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


class Files:
    """Relative names of files, found by the ends of their paths."""

    def __init__(self, files: Iterable[str]) -> None:
        self.ending_in: dict[str, list[str]] = defaultdict(list)
        for file in files:
            parts = normalized_name(file).split("/")
            for start in range(len(parts)):
                self.ending_in["/".join(parts[start:])].append(file)

    def claim(self, named: str) -> tuple[str, int] | None:
        """The one file whose path ends in a name, or has its last part, and how many of the name's parts it has."""
        parts = normalized_name(named).split("/")
        for part in (parts, parts[-1:]):
            found = self.ending_in.get("/".join(part), [])
            if len(found) == 1:
                return found[0], len(part)
        return None

    def matching(self, names: Sequence[str]) -> list[str | None]:
        """For each name its file; None where there is none.

        No file is given to two names: that with most parts of its path has it, and neither of two with as many.
        """
        claims = [self.claim(name) for name in names]
        times, most = Counter(claims), dict(sorted(claim for claim in claims if claim))
        return [claim[0] if claim and claim[1] == most[claim[0]] and times[claim] == 1 else None for claim in claims]


def number_classes(labels: Iterable[str], skipped: Skipped) -> tuple[dict[int, str], dict[str, int]]:
    """Class number → name, and label → what it writes into masks.

    ``background`` and ``ignore``, in whatever case and within underscores, write 0 and 255; ``skipped`` gets a note.
    """
    names = list(dict.fromkeys(labels))
    reserved = {name: number for name in names if (number := reserved_number(name)) is not None}
    skipped.notes += [f"{name} is no class: it is written as {number}." for name, number in reserved.items()]
    classes = dict(enumerate((name for name in names if name not in reserved), start=1))
    return classes, reserved | {name: number for number, name in classes.items()}


def has_class(mask: Array) -> bool:
    """Whether any pixel of (H, W) class numbers is of a class, not background or ignored."""
    return bool(((mask != 0) & (mask != IGNORE)).any())
