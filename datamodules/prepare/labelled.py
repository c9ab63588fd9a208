"""What is read from a tool's labels: images with their masks, and what was skipped."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from datamodules.files.finding import one_form
from datamodules.files.sources import Array
from qgnet.common.errors import InputError

NAMED = 5
"""So many ids are named in a message."""


class Labelled(NamedTuple):
    """An image with its labels.

    Attributes:
        name: that image and mask shall have.
        picture: its file, or what the file held.
        ending: of the file, with its dot.
        mask: (H, W) uint8 class numbers; None if it has no label.
    """

    name: str
    picture: Path | bytes
    ending: str
    mask: Array | None


class Skipped:
    """What could not be used, with the names of it, by reason."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = defaultdict(list)

    def add(self, reason: str, name: object) -> None:
        """One more."""
        self.names[reason].append(str(name))

    def lines(self) -> list[str]:
        """A line per reason, with how many there are and the first of them."""
        return [
            f"{len(names)} skipped, {reason}: {', '.join(names[:NAMED])}{', …' if len(names) > NAMED else ''}"
            for reason, names in self.names.items()
        ]


def image_name(path: str) -> str:
    """A name without folders for an image in folders."""
    return one_form(str(PurePosixPath(path).with_suffix("")).replace("/", "_"))


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


def matching(files: Sequence[str], named: str) -> str | None:
    """The one file whose path ends as the name does, or that has its last part."""
    for wanted in (one_form(named), one_form(PurePosixPath(named).name)):
        found = [file for file in files if one_form(file) == wanted or one_form(file).endswith(f"/{wanted}")]
        if len(found) == 1:
            return found[0]
    return None


BACKGROUND = ("background", "_background_", "__ignore__")
"""What tools call pixels without a class; labelme's last is not a class either."""
