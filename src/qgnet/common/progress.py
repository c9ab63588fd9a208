"""Progress: a bar on a terminal, a few lines in a log."""
# ruff: noqa: PLC0415  (help of commands waits for no bar)

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from tqdm import tqdm

Item = TypeVar("Item")
LEAST = 1.0
"""Seconds between two lines."""
UNKNOWN = 60.0
"""The same of a work whose end is not known."""
WITH_END = "{desc}: {percentage:3.0f} % {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"
WITHOUT_END = "{desc}: {n_fmt} [{elapsed}, {rate_fmt}]"


class Lines(Generic[Item]):
    """A replacement for tqdm without a terminal: a line on the error output per tenth; none if all is done in a second.

    Args:
        items: what is worked on; empty where only :meth:`update` counts.
        title: of the work.
        total: how much there is; None: the number of items, if that is known.
        leave: whether a line says that it is done, in whatever time.
        initial: how much was done before.
        look: unit and scale, as of tqdm.
    """

    def __init__(
        self,
        items: Iterable[Item] | None,
        title: str,
        total: int | None = None,
        leave: bool = True,
        initial: int = 0,
        **look: Any,
    ) -> None:
        self.items, self.title, self.leave, self.initial = items, title, leave, initial
        self.total = len(items) if total is None and isinstance(items, Sized) else total
        layout = WITHOUT_END if self.total is None else WITH_END
        self.look = {"prefix": title, "initial": initial, "bar_format": layout, **look}
        self.done = self.shown = initial
        self.begun = self.last = time.monotonic()

    def __iter__(self) -> Iterator[Item]:
        """The items; each counts as done when the next is requested."""
        for item in self.items or ():
            yield item
            self.update()
        self.close()

    def update(self, count: int = 1) -> None:
        """Count this much more as done."""
        self.done += count
        waited = time.monotonic() - self.last
        tenth, before = (10 * done // max(1, self.total or 1) for done in (self.done, self.shown))
        if waited >= (LEAST if self.total is not None else UNKNOWN) and (self.total is None or tenth > before):
            self._print()

    def _print(self) -> None:
        self.shown, self.last = self.done, time.monotonic()
        from tqdm import tqdm

        line = tqdm.format_meter(self.done, self.total or 0, self.last - self.begun, **self.look)
        print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the work."""
        if self.leave and self.done > self.shown:
            self._print()

    def __enter__(self) -> "Lines[Item]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


if TYPE_CHECKING:
    Progress: TypeAlias = tqdm[Item] | Lines[Item]
else:  # at run time tqdm takes no type
    Progress = Lines


def progress(
    items: Iterable[Item] | None, title: str, total: int | None = None, leave: bool = True, **look: Any
) -> Progress[Item]:
    """The items, with their progress as a bar on a terminal or as :class:`Lines` elsewhere."""
    if not sys.stderr.isatty():
        return Lines(items, title, total, leave, **look)
    from tqdm import tqdm

    return tqdm(items, title, total, leave, **look)  # type: ignore[return-value]
