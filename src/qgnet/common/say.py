"""Lines and warnings for the user, from one process of all; imports nothing slow."""

import warnings

from lightning_utilities.core.rank_zero import rank_zero_only


def is_first() -> bool:
    """Whether this is the first of all processes, as Lightning numbers them; there are no others before it does."""
    return getattr(rank_zero_only, "rank", 0) == 0


def say(*lines: str) -> None:
    """Print the lines that are not empty, in one process of all."""
    if is_first():
        for line in filter(None, lines):
            print(line, flush=True)


def warn(message: str) -> None:
    """Warn in one process of all, in the name of the line that calls."""
    if is_first():
        warnings.warn(message, stacklevel=2)
