"""Names of classes: when two names mean the same class, and which names can be used."""

from collections.abc import Mapping

from datamodules.files.sources import IGNORE
from qgnet.common.errors import InputError

NO_CLASSES = {"background": 0, "ignore": IGNORE}
"""Labels that tools have for pixels of no class, and what such pixels are in a mask."""

SYNONYMS = {"aeroplane": "airplane", "motorbike": "motorcycle", "sofa": "couch", "tvmonitor": "tv"}
"""VOC's names of COCO's classes, where they differ by more than case and spaces."""


def reserved_number(label: str) -> int | None:
    """0 or 255 for a label of ``NO_CLASSES``, in any case and within underscores; None for a class."""
    return NO_CLASSES.get(label.strip("_ ").lower())


def normalized_class(name: str) -> str:
    """A name without case, spaces, ``-`` and ``_``."""
    return "".join(letter for letter in name.casefold() if letter not in " -_")


def canonical_class(name: str) -> str:
    """A form of the name that is equal for the names of one class in several data sets."""
    return SYNONYMS.get(normalized_class(name), normalized_class(name))


def check_printable(names: Mapping[int, str], where: str) -> None:
    """InputError unless every class (number → name) of the file or folder ``where`` has a name that can be shown."""
    for number, name in names.items():
        if not name.strip() or not name.isprintable():
            raise InputError(f"{where} names class {number} {name!r}; expected printable letters. Rename it.")


def check_distinct(names: Mapping[int, str], where: str) -> None:
    """InputError unless every class (number → name) of the file or folder ``where`` has a name of its own."""
    first: dict[str, int] = {}
    for number, name in names.items():
        other = first.setdefault(normalized_class(name), number)
        if other != number:
            raise InputError(
                f"{where} gives the classes {other} and {number} one name, {names[other]} and {name}: with one chosen "
                "as novel, the other would be trained on. Rename one, or give both masks one number."
            )
