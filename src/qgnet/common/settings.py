"""The range of a setting: declared beside its parameter, checked whenever an object is created.

``class Frame(metaclass=Checked)`` with a ``prefix`` and ``def __init__(self, width: Annotated[int, Range(1)] = 5)``
refuses ``Frame(width=0)``.
"""

import inspect
import math
from abc import ABCMeta
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Integral, Real
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from qgnet.common.errors import InputError

RENAMED = {
    "prior_checkpoint": "prior_weights",
    "margins": "score_maps",
    "add_margins": "add_to_score_maps",
}
"""Old name of a setting → name: command lines, configurations, files and Python with the old one still work."""
MOVED = {
    f"datamodules.{module}.{name}": f"datamodules.{name}"
    for module, name in {
        "pascal5i": "Pascal5iDataModule",
        "coco20i": "Coco20iDataModule",
        "fss1000": "Fss1000DataModule",
        "folder": "FolderDataModule",
        "synthetic": "SyntheticDataModule",
    }.items()
} | {"datamodules.synthetic.SyntheticViewsDataModule": "datamodules.SyntheticViewsDataModule"}
"""Old import path of a class → path, as in ``class_path``."""


@dataclass(frozen=True, repr=False)
class Rule:
    """What a value must be: in words for help and messages, and as a function. The value is not bool."""

    expected: str
    fits: Callable[[Any], bool]

    def __repr__(self) -> str:
        return self.expected


def each_number(expected: str, holds: Callable[[Any], bool], kind: type = Real) -> Rule:
    """A rule for a number, or for each number of a sequence."""
    return Rule(expected, lambda value: all(isinstance(number, kind) and holds(number) for number in elements(value)))


def elements(value: Any) -> Sequence[Any]:
    """The elements of a sequence, or the value itself."""
    return value if isinstance(value, list | tuple) else (value,)


def Range(least: float = -math.inf, most: float = math.inf, above: float = -math.inf) -> Rule:  # noqa: N802 (a type's)
    """A number, or each number of a sequence, from ``least`` to ``most``, and above ``above``; never NaN."""
    text = f"at least {least:.12g}" if most == math.inf else f"{least:.12g} … {most:.12g}"
    expected = f"more than {above:.12g}" if above > -math.inf else text
    return each_number(expected, lambda number: least <= number <= most and number > above)


LARGEST_SIDE = 4097
"""In pixels, of a square that goes through a network: one takes some gigabytes, twice the side four times as many."""
SIDE = each_number(
    f"a whole number of pixels, 1 … {LARGEST_SIDE}", lambda side: 1 <= side <= LARGEST_SIDE, kind=Integral
)
INCREASING = Rule("the smaller number first", lambda pair: list(pair) == sorted(pair))
NOT_EMPTY = Rule("at least one entry", lambda entries: len(entries) > 0)
NOT_NONE = Rule("a value", lambda value: value is not None)
FINITE = Rule("a finite number", lambda value: all(math.isfinite(v) for v in elements(value) if isinstance(v, float)))
Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Share = Annotated[float, Range(0, 1)]
Scale = Annotated[tuple[float, float], Range(0.1, 10), INCREASING]
"""Range of a random scaling."""
Side = Annotated[int, SIDE]
"""Of a network's square. Which sides it takes, its encoder says."""


class Checked(ABCMeta):
    """Metaclass that checks the settings of each new object; ``prefix`` names their group, such as ``data``."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make an object; settings may have their old names; InputError for the first setting that does not fit."""
        kwargs = {RENAMED.get(name, name): value for name, value in kwargs.items()}
        try:
            given = inspect.signature(cls.__init__).bind_partial(None, *args, **kwargs).arguments  # type: ignore[misc]
        except TypeError:  # an argument that there is not, which the constructor itself refuses
            return super().__call__(*args, **kwargs)
        given |= given.pop("kwargs", {})
        check(declared(cls), given, cls.prefix)  # type: ignore[attr-defined]
        return super().__call__(*args, **kwargs)


@cache
def declared(cls: type) -> dict[str, list[Rule]]:
    """Parameter → rules, over the constructors of a class and its bases: a subclass with another default keeps them."""
    found: dict[str, list[Rule]] = {}
    for base in cls.__mro__:
        if isinstance(base, Checked) and "__init__" in vars(base):
            for name, hint in get_type_hints(base.__init__, include_extras=True).items():  # type: ignore[misc]
                optional = hint in (Any, None, type(None)) or type(None) in get_args(hint)
                found.setdefault(name, [] if optional else [NOT_NONE]).extend(rules(hint))
    return found


def rules(hint: Any) -> list[Rule]:
    """The rules of a type: ``Annotated[int, Range(1)] | None`` has one. Beside a Literal, callables may be allowed."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Annotated:
        return [*rules(parts[0]), *(part for part in parts[1:] if isinstance(part, Rule))]
    if kind is Literal:
        return [Rule(f"one of {', '.join(map(str, parts))}", lambda value: value in parts)]
    if kind not in (Union, UnionType):
        return []
    found = [rule for part in parts for rule in rules(part)]
    return list(map(or_callable, found)) if any(get_origin(part) is Callable for part in parts) else found


def or_callable(rule: Rule) -> Rule:
    """The same rule, for values that are not functions."""
    return Rule(rule.expected, lambda value: callable(value) or rule.fits(value))


def check(declared: Mapping[str, Sequence[Rule]], values: Mapping[str, Any], prefix: str) -> None:
    """Raise InputError for the first value outside its range; the prefix comes before its name in the message.

    None, where it is allowed, and bool are not checked.
    """
    for name, own in declared.items():
        value = values.get(name)
        if name not in values or isinstance(value, bool) or (value is None and NOT_NONE not in own):
            continue
        for rule in [*own, FINITE]:
            if not rule.fits(value):
                raise InputError(f"{f'{prefix}.{name}'.lstrip('.')} is {value!r}; expected {rule}.")


def check_side(side: Any, name: str) -> None:
    """Raise InputError for a side that no network takes; ``name`` is that of the setting or image in the message."""
    if isinstance(side, bool) or not SIDE.fits(side):
        raise InputError(f"{name} is {side!r}; expected {SIDE}.")


def renamed(content: Any) -> Any:
    """The content of a file with the current names of all settings and classes."""
    if isinstance(content, str):
        return MOVED.get(content, content)
    if isinstance(content, dict):
        return {RENAMED.get(key, key): renamed(value) for key, value in content.items()}
    return [renamed(value) for value in content] if isinstance(content, list) else content
