"""Check plain values from files that anybody may have changed."""

import json
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qgnet.common.errors import InputError
from qgnet.common.settings import SIDE as SIDE_RULE
from qgnet.inference.presence import Calibration
from qgnet.networks.score_maps import SCORE_MAPS

SHOWN = 60
"""Most letters of a value in a message."""
SAVED_AS = {"support_similarity": "usual"}
"""Field of a calibration or a fitted class → its unchanged name in files."""


class Field(NamedTuple):
    """A rule for a value.

    Attributes:
        expected: the rule in words.
        fits: whether a value follows the rule.
    """

    expected: str
    fits: Callable[[Any], bool]


def check_fields(
    where: str, content: Any, fields: Mapping[str, Field], remedy: str, missing: Collection[str] = ()
) -> None:
    """Raise InputError for the first field of a file's part that is missing or does not fit.

    Args:
        where: name of the part, for the message.
        content: the part as it was read.
        fields: name → rule.
        remedy: a sentence with the advice.
        missing: names of optional fields.
    """
    if not isinstance(content, Mapping):
        raise InputError(f"{where} is {shortened(content)}; expected names and values. {remedy}")
    for name, field in fields.items():
        if name not in content:
            if name not in missing:
                raise InputError(f"{where} has no {name}; expected {field.expected}. {remedy}")
        elif not field.fits(content[name]):
            raise InputError(f"{where}: {name} is {shortened(content[name])}; expected {field.expected}. {remedy}")


def shortened(value: Any) -> str:
    """The beginning of a value as text."""
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_list_of(fits: Callable[[Any], bool], length: int | None = None) -> Callable[[Any], bool]:
    """A check for lists whose items all fit, of this length or of any length from 1 on."""

    def all_fit(value: Any) -> bool:
        right = isinstance(value, list | tuple) and (len(value) == length if length is not None else len(value) > 0)
        return right and all(fits(one) for one in value)

    return all_fit


def optional(field: Field) -> Field:
    """The same rule, with None allowed."""
    return Field(f"{field.expected}, or nothing", lambda value: value is None or field.fits(value))


def one_of(names: Collection[str]) -> Field:
    """The rule that a value is one of these names."""
    return Field(f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names)


NUMBER = Field("a finite number", is_number)
INTEGER = Field("a whole number", lambda value: isinstance(value, int))
SHARE = Field("a number from 0 to 1", lambda value: is_number(value) and 0 <= value <= 1)
THRESHOLD = Field("a number between 0 and 1", lambda value: is_number(value) and 0 < value < 1)
FLAG = Field("true or false", lambda value: isinstance(value, bool))
TEXT = Field("text", lambda value: isinstance(value, str) and value != "")
SIDE = Field(str(SIDE_RULE), lambda value: not isinstance(value, bool) and SIDE_RULE.fits(value))
SIDES = Field(f"a list, each {SIDE.expected}", is_list_of(SIDE.fits))
NUMBERS = Field("a list of finite numbers", is_list_of(is_number))
TABLE = Field("names and values", lambda value: isinstance(value, Mapping) and all(isinstance(k, str) for k in value))
LIST = Field("a list", lambda value: isinstance(value, list))
COUNT = Field("a whole number from 1 on", lambda x: isinstance(x, int) and not isinstance(x, bool) and x > 0)
COUNTS = Field("a list of whole numbers from 1 on", is_list_of(COUNT.fits))
SIZES = Field(
    "a list of pairs of whole numbers from 1 on",
    is_list_of(is_list_of(lambda side: isinstance(side, int) and side >= 1, 2)),
)
SCORE_MAP_NAMES = Field(
    f"a list of some of {', '.join(SCORE_MAPS)}",
    lambda value: isinstance(value, list) and all(one_of(SCORE_MAPS).fits(name) for name in value),
)
CALIBRATION = {
    **dict.fromkeys(("similarity", "strength", "shots", "offset"), NUMBER),
    "threshold": THRESHOLD,
    "centre": NUMBERS,
    "usual": NUMBER,
    "sides": SIDES,
    "bf16": FLAG,
}
"""Rules in the order of the fields of :class:`Calibration`; older files lack the last fields."""


def plain(fields: NamedTuple) -> dict[str, Any]:
    """A calibration or a fitted class as a dictionary with the names in files."""
    return {SAVED_AS.get(name, name): value for name, value in fields._asdict().items()}


def read_calibration(file: Path) -> Calibration:
    """The calibration in a file of this package, written by ``benchmarks/presence.py``; InputError if it is damaged."""
    calibration = parse_calibration(str(file), json.loads(file.read_text(encoding="utf-8")), "Install again.")
    assert calibration is not None
    return calibration


def parse_calibration(where: str, content: Any, remedy: str) -> Calibration | None:
    """A calibration from plain values; None for None. InputError if a value is missing or does not fit."""
    if content is None:
        return None
    check_fields(f"{where}, the calibration", content, CALIBRATION, remedy, ("usual", "sides", "bf16"))
    names = {SAVED_AS.get(name, name): name for name in Calibration._fields}
    known = {names[key]: content[key] for key in CALIBRATION if key in content}
    values: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in known.items()}
    return Calibration(**values)
