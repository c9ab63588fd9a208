"""The output files of each image, known before the work. Names that collide or are too long are refused."""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from datamodules.files.finding import normalized_name
from qgnet.common.errors import InputError
from qgnet.outputs import FORMATS

FOLDER = ".qgnet"
"""In the output folder: a record of each image, and the lock."""
LOCK = f"{FOLDER}/lock"
"""Held by the run that works in the output folder."""
TABLE, SHEET, ANNOTATIONS = "segments.csv", "contact_sheet.jpg", "annotations.json"
"""Of all images."""
RESERVED = {TABLE, SHEET, ANNOTATIONS, *(one.path.split("/")[0] for one in FORMATS.values() if one.path[:1] != "{")}
LONGEST = 255
"""Bytes of a file's name, where the system does not tell."""
Classes = tuple[str, ...]
"""Names of all classes, in the order of their numbers."""


def record_file(name: str) -> str:
    """Path of an image's record, below the output folder."""
    return f"{FOLDER}/{name}.json"


def files_of(chosen: str, name: str, classes: Classes) -> list[str]:
    """An image's files in one format, below the output folder; of a format with a file per class, in their order."""
    path = FORMATS[chosen].path
    folders = class_folders(classes) if "{folder}" in path else [""]
    return [path.format(name=name, folder=folder) for folder in folders] if path else []


def all_files(name: str, formats: Collection[str], classes: Classes) -> dict[str, str]:
    """An image's files in several formats → the format of each."""
    return {file: chosen for chosen in formats for file in files_of(chosen, name, classes)}


def files_of_all_formats(name: str, classes: Classes) -> dict[str, str]:
    """An image's files in every format."""
    return all_files(name, FORMATS, classes)


@lru_cache(8)
def class_folders(classes: Classes) -> list[str]:
    """A folder name with ``/`` for each class, unique in any case of letters; ``""`` for a single class."""
    if len(classes) == 1:
        return [""]
    plain = [folder_name(name) for name in classes]
    forms = [caseless(folder) for folder in plain]
    alike, seen, folders = Counter(forms), Counter[str](), []
    for folder, form in zip(plain, forms, strict=True):
        seen[form] += 1
        folders.append(f"{folder}-{seen[form]}/" if alike[form] > 1 else f"{folder}/")
    return folders


def folder_name(name: str) -> str:
    """A class name as a folder name: not a path, not hidden, not a name that is used for other files."""
    plain = name.replace("/", "_").replace("\\", "_").replace("\0", "_")
    return f"_{plain}" if not plain or plain.startswith(".") or caseless(plain) in RESERVED else plain


def caseless(path: str) -> str:
    """A path for comparison on file systems that ignore case and Unicode form."""
    return normalized_name(path).casefold()


def longest_name(out: Path) -> int:
    """Most bytes of a file name in the output folder, which must exist."""
    most = os.pathconf(out, "PC_NAME_MAX") if hasattr(os, "pathconf") else LONGEST
    return most if most > 0 else LONGEST  # -1 where there is no limit


def is_too_long(name: str, longest: int) -> bool:
    """Whether a file of an image would have a longer name; that of its record is the longest."""
    return max(map(len, os.fsencode(record_file(name)).split(b"/"))) > longest


def check_distinct(out: Path, images: Mapping[str, Path], formats: Collection[str], classes: Classes) -> None:
    """Raise InputError if two files collide, a file is where a folder is needed, or a name is too long."""
    longest = longest_name(out)
    for name, folder in zip(classes, class_folders(classes), strict=True):
        if len(os.fsencode(folder)) > longest + 1:
            raise InputError(f"The class {name[:40]!r}… has too long a name for a folder of this name. Shorten it.")
    form = caseless if ignores_case(out) else str
    whose = {form(file): "the command itself" for file in (TABLE, SHEET, ANNOTATIONS)}
    for file, by in _written(images, formats, classes):
        if form(file) in whose:
            raise InputError(f"{whose[form(file)]} and {by} would both be written to {out / file}. {REMEDY}")
        if (out / file).is_dir():
            raise InputError(f"{out / file} is a folder; {by} would be written to a file of this name. Remove it.")
        whose[form(file)] = by
    for file, by in _written(images, formats, classes):
        for folder in _folders(file):
            if form(folder) in whose:
                raise InputError(
                    f"{whose[form(folder)]} would be written to {out / folder}, and that must be a folder for {by}. "
                    f"{REMEDY}"
                )


REMEDY = "Rename one of them, or write them to an --out of their own."


def _written(images: Mapping[str, Path], formats: Collection[str], classes: Classes) -> Iterator[tuple[str, str]]:
    """Each file that would be written, repeats included, and its source, for a message."""
    for name, path in images.items():
        for chosen in formats:
            by = f"{path} (--format {chosen})"
            yield from ((file, by) for file in files_of(chosen, name, classes))
        yield record_file(name), str(path)


def _folders(file: str) -> Iterator[str]:
    """The folders of a file below the output folder, innermost first."""
    while "/" in file:
        file = file.rpartition("/")[0]
        yield file


def ignores_case(out: Path) -> bool:
    """Whether the file system of the output folder ignores case; `FOLDER` must exist in it."""
    return (out / FOLDER.upper()).exists()
