"""Text files: lists of images or classes, and class numbers with their names."""

import re
from pathlib import Path, PurePosixPath

import yaml

from datamodules.files.finding import ENDINGS
from qgnet.common.errors import InputError

DIGITS = 9
"""A class number has no more."""
PAIR = re.compile(r"(.+)__\d+")
"""HSNet's image and class, e.g. ``2007_000033__01``."""


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, stripped, without empty ones and those that begin with ``#``; InputError for none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{path} does not exist; expected a text file with one name per line.") from None
    except PermissionError:
        raise InputError(f"{path} cannot be read (permission denied). Give yourself the right to read it.") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not a text file in UTF-8 (byte {error.start}). Save it as UTF-8, a name per line."
        ) from None
    found = [line.strip() for line in lines]
    found = [line for line in found if line and not line.startswith("#")]
    if not found:
        raise InputError(f"{path} is empty; expected one name per line.")
    return found


def read_list(path: Path) -> list[str]:
    """The image ids of a list file; InputError if an image is named twice, or a line names two.

    A line may be an id (``2007_000033``), a file (``JPEGImages/2007_000033.jpg``), PFENet's image and mask file
    (``JPEGImages/2007_000033.jpg SegmentationClassAug/2007_000033.png``), or HSNet's id and class
    (``2007_000033__01``), of which an image may have several.
    """
    names: dict[str, bool] = {}
    for line in read_lines(path):
        columns = line.split()
        stems = {stem(column) for column in columns}
        if len(stems) > 1:
            raise InputError(
                f"{path} has the line {line!r}; expected one image id, or an image and its mask of one name."
            )
        pair = PAIR.fullmatch(columns[0])
        name = pair[1] if pair else stems.pop()
        if name in names and not (pair and names[name]):
            raise InputError(f"{path} names {name} more than once. Keep one line of it.")
        names[name] = bool(pair)
    return list(names)


def stem(column: str) -> str:
    """The id in a column: without folders and, where it is an image's file, without ending."""
    path = PurePosixPath(column.replace("\\", "/"))
    return path.stem if path.suffix.lower() in ENDINGS else path.name


def read_classes(path: Path) -> dict[int, str]:
    """Class number → name of a ``classes.yaml``. Names are text as written, also ``no``, ``007`` and ``null``."""
    expected = f"{path} is not `number: name` lines"
    try:
        content = yaml.compose(path.read_bytes(), yaml.BaseLoader)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; expected `number: name` lines, like `1: cat`.") from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{expected} ({error}). Write it in UTF-8, like `1: cat`.") from None
    if not isinstance(content, yaml.MappingNode):
        raise InputError(f"{expected}. Write it like `1: cat`.")
    names: dict[int, str] = {}
    for key, value in content.value:
        scalars = isinstance(key, yaml.ScalarNode) and isinstance(value, yaml.ScalarNode)
        if not scalars or not key.value.isdecimal() or len(key.value) > DIGITS or not value.value:
            raise InputError(f"{expected} (line {key.start_mark.line + 1}). Write each like `1: cat`.")
        number, name = int(key.value), str(value.value)
        if number in names:
            raise InputError(f"{path} has the number {number} twice. Give each class a number of its own.")
        names[number] = name
    return names
