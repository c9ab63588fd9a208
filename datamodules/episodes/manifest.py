"""Test episodes in a file: a header with their hash, then a JSON line each, so that codebases can share them."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from datamodules.files.writing import atomic_write
from qgnet.common.errors import InputError
from qgnet.common.text import read_text

FORMAT = "qgnet-episodes-1"


class NamedDraw(NamedTuple):
    """Which images make an episode, by name."""

    class_id: int
    query: str
    supports: tuple[str, ...]


def write_manifest(path: Path, draws: Sequence[NamedDraw]) -> str:
    """Write the episodes, the file appearing by rename; returns their sha256."""
    body = "".join(json.dumps(draw._asdict()) + "\n" for draw in draws)
    digest = hashlib.sha256(body.encode()).hexdigest()
    header = {"format": FORMAT, "episodes": len(draws), "sha256": digest}
    with atomic_write(path) as part:
        part.write_text(json.dumps(header) + "\n" + body)
    return digest


def read_manifest(path: Path) -> list[NamedDraw]:
    """The episodes of a manifest; InputError if it is missing, not a manifest, or changed since it was written."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected a manifest written by `qgnet episodes`.")
    first, _, body = read_text(path).partition("\n")
    try:
        header = json.loads(first)
        rows = [json.loads(line) for line in body.splitlines()]
        draws = [NamedDraw(int(row["class_id"]), row["query"], tuple(row["supports"])) for row in rows]
        if header["format"] != FORMAT:
            raise ValueError(header["format"])
        expected = header["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no manifest of episodes ({type(error).__name__}: {error}). Write one by `qgnet episodes`."
        ) from None
    found = hashlib.sha256(body.encode()).hexdigest()
    if found != expected:
        raise InputError(
            f"The episodes in {path} have the sha256 {found[:12]}…, but its header says {expected[:12]}…: it was "
            "changed or cut off. Fetch it again, or write it anew by `qgnet episodes`."
        )
    if not draws:
        raise InputError(f"{path} holds no episode. Write it anew by `qgnet episodes`.")
    return draws
