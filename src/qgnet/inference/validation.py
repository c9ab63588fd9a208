"""Plain values in files that anybody may have changed, held against what is expected of them."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from qgnet.common.errors import InputError
from qgnet.common.settings import SIDE as SIDE_RULE
from qgnet.inference.presence import Calibration
from qgnet.networks.score_maps import SCORE_MAPS

SHOWN = 60
"""Letters of a value that a message shows."""


class Field(NamedTuple):
    """What a value must be.

    Attributes:
        expected: in words.
        fits: whether a value is that.
    """

    expected: str
    fits: Callable[[Any], bool]


def hold(where: str, content: Any, fields: Mapping[str, Field], remedy: str, missing: Collection[str] = ()) -> None:
    """Look at all fields of a file, or of a part of it.

    Args:
        where: names the part, for messages.
        content: what was read.
        fields: name → what must be there.
        remedy: a sentence, what to do.
        missing: names that need not be there.

    Raises:
        InputError: naming the first field that is missing or does not fit.
    """
    if not isinstance(content, Mapping):
        raise InputError(f"{where} is {shown(content)}; expected names and values. {remedy}")
    for name, field in fields.items():
        if name not in content:
            if name not in missing:
                raise InputError(f"{where} has no {name}; expected {field.expected}. {remedy}")
        elif not field.fits(content[name]):
            raise InputError(f"{where}: {name} is {shown(content[name])}; expected {field.expected}. {remedy}")


def shown(value: Any) -> str:
    """The beginning of a value."""
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def is_number(value: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_list_of(fits: Callable[[Any], bool], length: int | None = None) -> Callable[[Any], bool]:
    """Whether something is a list of what fits, of this length or of any from 1 on."""

    def all_fit(value: Any) -> bool:
        right = isinstance(value, list | tuple) and (len(value) == length if length is not None else len(value) > 0)
        return right and all(fits(one) for one in value)

    return all_fit


def are_score_map_names(value: Any) -> bool:
    """Whether something lists names of `SCORE_MAPS`, or none."""
    return isinstance(value, list) and all(isinstance(one, str) and one in SCORE_MAPS for one in value)


def optional(field: Field) -> Field:
    """The same, or None."""
    return Field(f"{field.expected}, or nothing", lambda value: value is None or field.fits(value))


def one_of(names: Collection[str]) -> Field:
    """One of these names."""
    return Field(f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names)


NUMBER = Field("a finite number", is_number)
SHARE = Field("a number from 0 to 1", lambda value: is_number(value) and 0 <= value <= 1)
THRESHOLD = Field("a number between 0 and 1", lambda value: is_number(value) and 0 < value < 1)
FLAG = Field("true or false", lambda value: isinstance(value, bool))
TEXT = Field("text", lambda value: isinstance(value, str) and value != "")
SIDE = Field(str(SIDE_RULE), lambda value: not isinstance(value, bool) and SIDE_RULE.fits(value))
NUMBERS = Field("a list of finite numbers", is_list_of(is_number))
TABLE = Field("names and values", lambda value: isinstance(value, Mapping) and all(isinstance(k, str) for k in value))
LIST = Field("a list", lambda value: isinstance(value, list))
SIZES = Field(
    "a list of pairs of whole numbers from 1 on",
    is_list_of(is_list_of(lambda side: isinstance(side, int) and side >= 1, 2)),
)
CALIBRATION = {
    **dict.fromkeys(("similarity", "strength", "shots", "offset", "usual"), NUMBER),
    "threshold": THRESHOLD,
    "centre": NUMBERS,
    "sides": Field(f"a list, each {SIDE.expected}", is_list_of(SIDE.fits)),
    "bf16": FLAG,
}
LATER = tuple(Calibration._field_defaults)
"""Fields of a calibration that older files do not have."""


def parse_calibration(where: str, content: Any, remedy: str) -> Calibration | None:
    """A calibration of plain values, such as ``benchmarks/presence.py`` writes; None of None.

    Raises:
        InputError: if one of them is missing or is another.
    """
    if content is None:
        return None
    hold(f"{where}, the calibration", content, CALIBRATION, remedy, LATER)
    known: dict[str, Any] = {name: content[name] for name in CALIBRATION if name in content}
    for name, value in known.items():
        known[name] = tuple(value) if isinstance(value, list) else value
    return Calibration(**known)
