"""How far a work is: a bar on a terminal, a few lines where the output goes into a log."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
LEAST = 1.0
"""Seconds between two lines."""
UNKNOWN = 60.0
"""The same of a work whose end is not known."""
WITH_END = "{desc}: {percentage:3.0f} % {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"
WITHOUT_END = "{desc}: {n_fmt} [{elapsed}, {rate_fmt}]"


class Lines(Generic[Item]):
    """Says on the error output how far a work is, a line per tenth of it; nothing of one that is done in a second.

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
        self.items = items
        self.title = title
        self.total = len(items) if total is None and isinstance(items, Sized) else total
        self.leave = leave
        self.look = look
        self.initial = self.done = self.told = initial
        self.begun = self.last = time.monotonic()

    def __iter__(self) -> Iterator[Item]:
        """The items; the work on each is done when the next is asked for."""
        for item in self.items or ():
            yield item
            self.update()
        self.close()

    def update(self, count: int = 1) -> None:
        """So much more is done."""
        self.done += count
        waited = time.monotonic() - self.last
        further = waited >= UNKNOWN if self.total is None else self._tenth(self.done) > self._tenth(self.told)
        if further and waited >= LEAST:
            self._tell()

    def _tenth(self, done: int) -> int:
        return 10 * done // max(1, self.total or 1)

    def _tell(self) -> None:
        self.told, self.last = self.done, time.monotonic()
        line = tqdm.format_meter(
            self.done,
            self.total or 0,
            self.last - self.begun,
            prefix=self.title,
            initial=self.initial,
            bar_format=WITHOUT_END if self.total is None else WITH_END,
            **self.look,
        )
        print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """The work is over."""
        if self.leave and self.done > self.told:
            self._tell()

    def __enter__(self) -> "Lines[Item]":
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """The work is over."""
        self.close()


if TYPE_CHECKING:
    Progress: TypeAlias = tqdm[Item] | Lines[Item]
else:  # at run time tqdm takes no type
    Progress = Lines


def progress(
    items: Iterable[Item] | None, title: str, total: int | None = None, leave: bool = True, **look: Any
) -> Progress[Item]:
    """The items, while it is shown how far the work on them is.

    Args:
        items: as of :class:`Lines`, which takes the bar's place where the error output is no terminal.
        title: of the work.
        total: how much there is, if ``items`` doesn't tell.
        leave: whether the bar, or a last line, stays when the work is done.
        look: ``unit``, ``unit_scale``, ``unit_divisor`` and ``initial`` as of tqdm.
    """
    return (tqdm if sys.stderr.isatty() else Lines)(items, title, total, leave, **look)
