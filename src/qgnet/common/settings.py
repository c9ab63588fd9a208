"""What a setting may be: declared beside its parameter, checked whenever an object is made, however it is made.

class Frame(metaclass=Checked):
prefix = "data"
def __init__(self, width: Annotated[int, Range(1)] = 5) -> None: …
"""

import inspect
import math
from abc import ABC, ABCMeta, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from numbers import Integral, Real
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from qgnet.common.errors import InputError
from qgnet.common.renamed import RENAMED


class Rule(ABC):
    """What a value must be; its text stands in help and messages, as what is expected."""

    @abstractmethod
    def fits(self, value: Any) -> bool:
        """Whether the value, which is neither None nor bool, is allowed."""

    @abstractmethod
    def __str__(self) -> str: ...

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, repr=False)
class Range(Rule):
    """A number, or each number of a sequence, from ``least`` to ``most``, and above ``above``."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf

    def fits(self, value: Any) -> bool:
        """Not a number (NaN) never fits."""
        return all(isinstance(v, Real) and self.holds(v) for v in elements(value))

    def holds(self, number: Any) -> bool:
        """Whether one number is allowed."""
        return bool(self.least <= number <= self.most and number > self.above)

    def __str__(self) -> str:
        if self.above > -math.inf:
            return f"more than {self.above:.12g}"
        return f"at least {self.least:.12g}" if self.most == math.inf else f"{self.least:.12g} … {self.most:.12g}"


LARGEST_SIDE = 4097
"""In pixels, of a square that goes through a network: one takes some gigabytes, twice the side four times as many."""


@dataclass(frozen=True, repr=False)
class Side(Range):
    """A side of a network's square. Which of them it takes, its encoder says."""

    least: float = 1
    most: float = LARGEST_SIDE

    def holds(self, number: Any) -> bool:
        """Whether one side is allowed."""
        return isinstance(number, Integral) and super().holds(number)

    def __str__(self) -> str:
        return f"a whole number of pixels, {self.least:.12g} … {self.most:.12g}"


class Rising(Rule):
    """A pair whose first number is not above its second."""

    def fits(self, value: Any) -> bool:
        """Whether it rises."""
        return list(value) == sorted(value)

    def __str__(self) -> str:
        return "the smaller number first"


class Filled(Rule):
    """At least one entry."""

    def fits(self, value: Any) -> bool:
        """Whether there is one."""
        return len(value) > 0

    def __str__(self) -> str:
        return "at least one entry"


class Checked(ABCMeta):
    """Of classes whose objects are made only from settings that fit; ``prefix`` names their group, such as ``data``."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make an object; settings may have their old names.

        Raises:
            InputError: for the first setting that does not fit.
        """
        kwargs = {RENAMED.get(name, name): value for name, value in kwargs.items()}
        try:
            given = inspect.signature(cls.__init__).bind_partial(None, *args, **kwargs).arguments  # type: ignore[misc]
        except TypeError:  # an argument that there is not, of which the constructor itself tells
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
                required: list[Rule] = [] if allows_none(hint) else [GIVEN]
                found.setdefault(name, required).extend(rules(hint))
    return found


def check(declared: Mapping[str, Sequence[Rule]], values: Mapping[str, Any], prefix: str) -> None:
    """Hold values against what is declared.

    Args:
        declared: name → rules.
        values: name → value. None, where it is allowed, and bool are not looked at.
        prefix: of the names, in messages; may be empty.

    Raises:
        InputError: naming the first setting that does not fit, what was found and what is expected.
    """
    for name, rules_of_it in declared.items():
        value = values.get(name)
        if name not in values or isinstance(value, bool) or (value is None and GIVEN not in rules_of_it):
            continue
        for rule in [*rules_of_it, FINITE]:
            if not rule.fits(value):
                setting = f"{prefix}.{name}".lstrip(".")
                raise InputError(f"{setting} is {value!r}; expected {rule}.")


def check_side(side: int, name: str) -> None:
    """Refuse a side that no network can have, by an InputError.

    Args:
        side: in pixels.
        name: of the setting or the image, for the message.
    """
    if isinstance(side, bool):  # which Python takes for a number
        raise InputError(f"{name} is {side}; expected {Side()}.")
    check({name: [GIVEN, Side()]}, {name: side}, "")


@dataclass(frozen=True, repr=False)
class OneOf(Rule):
    """One of a ``Literal``'s values; or, where the type allows for it, what makes an object."""

    values: tuple[Any, ...]
    makers: bool = False

    def fits(self, value: Any) -> bool:
        """Whether it is one."""
        return (self.makers and callable(value)) or value in self.values

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.values))}"


def rules(hint: Any) -> Iterator[Rule]:
    """Those of a type: ``Annotated[int, Range(1)] | None`` has one."""
    if get_origin(hint) is Annotated:
        yield from rules(get_args(hint)[0])
        yield from (rule for rule in get_args(hint)[1:] if isinstance(rule, Rule))
    elif get_origin(hint) in (Union, UnionType):
        makers = any(get_origin(part) is Callable for part in get_args(hint))
        for rule in (rule for part in get_args(hint) for rule in rules(part)):
            yield replace(rule, makers=makers) if isinstance(rule, OneOf) else rule
    elif get_origin(hint) is Literal:
        yield OneOf(get_args(hint))


def allows_none(hint: Any) -> bool:
    """Whether a type has None among its values."""
    return hint in (Any, None, type(None)) or any(part is type(None) for part in get_args(hint))


def elements(value: Any) -> Sequence[Any]:
    """A sequence's, or the value alone."""
    return value if isinstance(value, list | tuple) else (value,)


class Finite(Rule):
    """No infinity and no NaN, neither alone nor in a sequence."""

    def fits(self, value: Any) -> bool:
        """Whether no number is."""
        return all(math.isfinite(v) for v in elements(value) if isinstance(v, float))

    def __str__(self) -> str:
        return "a finite number"


class Given(Rule):
    """Not None, which YAML's null is."""

    def fits(self, value: Any) -> bool:
        """Whether there is a value."""
        return value is not None

    def __str__(self) -> str:
        return "a value"


FINITE = Finite()
GIVEN = Given()
Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Share = Annotated[float, Range(0, 1)]
