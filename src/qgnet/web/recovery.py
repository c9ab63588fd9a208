"""Read the files of a session as far as possible if one is incomplete or was edited by hand."""

import json
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import ValidationError

from datamodules.files.sources import IGNORE
from qgnet.web.session_file import MOST_CLASSES, ClassEntry, Outcome, PaintedMask, SessionState, Settings

Data = dict[str, Any]


def read_state(file: Path, masks: Path) -> tuple[SessionState, str]:
    """The session, and a warning, empty without problems.

    From a broken file, every readable value is used, and a copy of the file is saved. If the file or the entry of an
    image in it is lost, the painted masks are found by their files.
    """
    if not file.exists():
        state = with_masks(SessionState(), masks)
        return state, f"{file} is missing. The masks beside it are taken as supports." if state.painted else ""
    content = file.read_bytes()
    try:
        return SessionState.model_validate_json(content), ""
    except ValidationError as error:
        why = error.errors()[0]["msg"]
    return with_masks(readable(content), masks), (
        f"{file} cannot be read whole ({why}). What can be read of it stays, and so do all painted masks; those "
        f"without an entry are taken as supports. The file as it was lies in {store_broken(file, content)}."
    )


def readable(content: bytes) -> SessionState:
    """The readable part of a session file: wrong values are removed one by one."""
    try:
        data = json.loads(content.decode("utf-8-sig", errors="replace"))
    except (ValueError, RecursionError):
        return SessionState()
    if not isinstance(data, dict):
        return SessionState()
    while True:
        try:
            return SessionState.model_validate(data)
        except ValidationError as error:
            remove_value(data, error.errors()[0]["loc"])


def remove_value(data: Data, place: Sequence[int | str]) -> None:
    """Remove a value from nested lists and dictionaries; if it is missing, remove its container."""
    holder: Any = None
    node: Any = data
    for key in place:
        inside = key in node if isinstance(node, dict) else isinstance(node, list)
        if not inside:
            break
        holder, last, node = node, key, node[key]
    del holder[last]


def with_masks(state: SessionState, masks: Path) -> SessionState:
    """The session with all painted masks that have files, and a class for each number in them."""
    painted = dict(state.painted)
    for file in sorted(masks.glob("*.png")):
        if file.stem not in painted:
            numbers = numbers_in(file)
            painted[file.stem] = PaintedMask(support=bool(numbers), classes=sorted(numbers))
    known = {one.number for one in state.settings.classes}
    classes = [*state.settings.classes]
    for number in sorted({n for one in painted.values() for n in one.classes if 1 <= n <= MOST_CLASSES} - known):
        name = f"class {number}"
        while name in (one.name for one in classes):
            name += "'"
        classes.append(ClassEntry(number=number, name=name))
    settings = Settings(classes=classes, thresholds=state.settings.thresholds)
    return state.model_copy(update={"painted": painted, "settings": settings})


def numbers_in(mask: Path) -> set[int]:
    """The class numbers in a painted mask; empty if it cannot be read."""
    try:
        with Image.open(mask, formats=["PNG"]) as image:
            return set(np.unique(np.asarray(image)).tolist()) - {0, IGNORE}
    except (OSError, SyntaxError, ValueError):
        return set()


def read_outcomes(file: Path, classes: Set[int]) -> tuple[dict[str, Outcome], str]:
    """The last outcome of each image in the log, and a warning or "".

    An incomplete last line, left by a killed process, is ignored. Only classes with these numbers are kept.
    """
    content = file.read_bytes() if file.exists() else b""
    outcomes: dict[str, Outcome] = {}
    broken = 0
    lines = content.decode(errors="replace").split("\n")
    for number, line in enumerate(lines, start=1):
        try:
            key, outcome = json.loads(line)
            outcomes[str(key)] = Outcome.model_validate(outcome).of(classes)
        except (ValueError, TypeError, RecursionError):
            broken += number < len(lines)
    if not broken:
        return outcomes, ""
    return outcomes, (
        f"{broken} lines of {file} cannot be read. The images in them count as not segmented until the next run. The "
        f"file as it was lies in {store_broken(file, content)}."
    )


def store_broken(file: Path, content: bytes) -> str:
    """Save the content of a broken file beside it under a new name; return that name."""
    number = 1
    while (aside := file.with_name(f"broken-{number}-{file.name}")).exists():
        number += 1
    aside.write_bytes(content)
    return aside.name
