"""Images and masks read from the labels of a tool, and a list of what was skipped."""

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
"""Most ids that a message names."""


class AnnotatedImage(NamedTuple):
    """An image by its file or the file's content, and its mask (H, W) of class numbers; None without a label."""

    name: str
    image: Path | bytes
    ending: str
    mask: Array | None


class Skipped:
    """The names of everything that could not be used, by reason, and further notes."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = defaultdict(list)
        self.notes: list[str] = []

    def add(self, reason: str, name: object) -> None:
        """Add a skipped name."""
        self.names[reason].append(str(name))

    def join(self, others: "Skipped") -> None:
        """Add everything skipped in another part of the work."""
        for reason, names in others.names.items():
            self.names[reason] += names

    def lines(self) -> list[str]:
        """The notes, and a line per reason with the number of skipped names and the first of them."""
        return self.notes + [
            f"{len(names)} skipped, {reason}: {', '.join(names[:NAMED])}{', …' if len(names) > NAMED else ''}"
            for reason, names in self.names.items()
        ]


def flat_name(path: str) -> str:
    """The path of an image as a name without folders."""
    return normalized_name(str(PurePosixPath(path).with_suffix("")).replace("/", "_"))


def read_json(path: Path) -> Any:
    """The content of a JSON file; InputError if it cannot be read as JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}). Export it again.") from None


def json_files(folder: Path) -> list[Path]:
    """All JSON files under a folder, sorted, without hidden files."""
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
        """The only file whose path ends in a name or its last part, and the number of matching parts; else None."""
        parts = normalized_name(named).split("/")
        for part in (parts, parts[-1:]):
            found = self.ending_in.get("/".join(part), [])
            if len(found) == 1:
                return found[0], len(part)
        return None

    def matching(self, names: Sequence[str]) -> list[str | None]:
        """The file of each name; None if there is none.

        No two names get the same file: the name with the most matching parts gets it; with equal parts, none gets it.
        """
        claims = [self.claim(name) for name in names]
        times, most = Counter(claims), dict(sorted(claim for claim in claims if claim))
        return [claim[0] if claim and claim[1] == most[claim[0]] and times[claim] == 1 else None for claim in claims]


def number_classes(labels: Iterable[str], skipped: Skipped) -> tuple[dict[int, str], dict[str, int]]:
    """Class number → name, and label → value in masks.

    ``background`` and ``ignore``, in any case and between underscores, become 0 and 255; ``skipped`` gets a note.
    """
    names = list(dict.fromkeys(labels))
    reserved = {name: number for name in names if (number := reserved_number(name)) is not None}
    skipped.notes += [f"{name} is no class: it is written as {number}." for name, number in reserved.items()]
    classes = dict(enumerate((name for name in names if name not in reserved), start=1))
    return classes, reserved | {name: number for number, name in classes.items()}


def has_class(mask: Array) -> bool:
    """Whether (H, W) class numbers contain a class other than background and ignored."""
    return bool(((mask != 0) & (mask != IGNORE)).any())
