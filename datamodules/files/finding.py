"""Find the images or masks in a folder, with the same rule for both."""

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from qgnet.common.errors import InputError

ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif", ".avif"}
    | {".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm"}
)
"""Of the files that are read, in lower case; OpenCV and Pillow read them all."""
IMAGES, MASKS, CLASSES = "images", "masks", "classes.yaml"
"""Of a folder of your own images and masks."""
SYSTEM = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "#recycle", "$recycle.bin", "__pycache__"})
"""Names, in lower case, of what systems leave in folders; hidden files (.DS_Store, ._a.png, .ipynb_checkpoints) too."""


class Found(NamedTuple):
    """Sorted file names relative to a folder, with ``/``, and the number of skipped files of each kind."""

    files: list[str]
    left_out: Counter[str]

    def left_out_message(self, folder: Path) -> str:
        """The skipped files as a sentence; empty if there are none."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.left_out.items()))
        return f"Left out of {folder}: {kinds}." if kinds else ""


def find_files(folder: Path, deep: bool = True) -> Found:
    """All image files in a folder, and in those below it if ``deep``; masks included.

    The case of endings does not matter. Hidden files and system files are skipped. Links to folders are followed; each
    folder is searched once, under its own name if it lies here.
    """
    files: list[str] = []
    left_out: Counter[str] = Counter()
    walked: set[tuple[int, int]] = set()
    waiting: list[str] = [""]
    links: list[str] = []
    while waiting or links:
        within = waiting.pop() if waiting else links.pop(0)
        status = os.stat(folder / within)
        if (status.st_dev, status.st_ino) in walked:
            left_out["link(s) to a folder that is searched already"] += 1
            continue
        walked.add((status.st_dev, status.st_ino))
        for entry in entries(folder / within):
            name = f"{within}/{entry.name}" if within else entry.name
            if is_hidden(entry.name):
                left_out["hidden or system file(s)"] += 1
            elif leads_to(entry, entry.is_dir):
                if deep:
                    (links if entry.is_symlink() else waiting).append(name)
                else:
                    left_out["folder(s) in it"] += 1
            elif os.path.splitext(entry.name)[1].lower() not in ENDINGS:
                left_out[f"{os.path.splitext(entry.name)[1].lower() or 'file(s) without ending'}"] += 1
            elif not leads_to(entry, entry.is_file):
                left_out["broken link(s)"] += 1
            else:
                files.append(name)
        links.sort()
    files.sort()
    return Found(files, left_out)


def files_by_name(folder: Path, files: Sequence[str]) -> dict[str, Path]:
    """Name without folder and ending, in one Unicode form → file; InputError if two files have the same name."""
    found: dict[str, Path] = {}
    for file in files:
        path = folder / file
        name = normalized_name(path.stem)
        if name in found:
            raise InputError(
                f"{path} and {found[name].name} have the same name. Rename one, and its mask, or remove it."
            )
        found[name] = path
    return found


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, links to folders included, hidden and system ones left out, sorted."""
    return sorted(
        entry.name for entry in entries(folder) if leads_to(entry, entry.is_dir) and not is_hidden(entry.name)
    )


def entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The content of a folder; InputError if it cannot be read."""
    try:
        with os.scandir(folder) as found:
            yield from found
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}). Give yourself the right to read it.") from None


def leads_to(entry: os.DirEntry[str], is_kind: Callable[[], bool]) -> bool:
    """What ``entry.is_dir`` or ``entry.is_file`` says; False of a link that cannot be followed, e.g. one to itself."""
    try:
        return is_kind()
    except OSError:
        if entry.is_symlink():
            return False
        raise


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is a system's or tool's own."""
    return name.startswith(".") or name.lower() in SYSTEM


def normalized_name(name: str) -> str:
    """A name for comparing: macOS writes ``é`` as two characters, other systems as one."""
    return unicodedata.normalize("NFC", name)
