"""Terminal output: lines and warnings from one of all processes, without noise from libraries. Imports nothing slow."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ADVERTISING = ("pytorch_lightning", "lightning_fabric", "lightning_utilities")
"""Loggers whose INFO is tips, devices that there are not, and a table of modules."""
SILENT = "WANDB_SILENT"
"""Environment variable by which wandb says nothing of itself."""
NOISE = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"The '.*' does not have many workers",
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    r"Found \d+ module\(s\) in eval mode",  # the frozen ones
    r"The dirpath has changed from",  # each run has its own
    r"Checkpoint directory .* exists and is not empty",  # of a resumed run
    r"Experiment logs directory .* exists and is not empty",  # older metrics were set aside
    r"The ``compute`` method of metric SupportControl was called before the ``update`` method",  # no absent classes
    r"It is recommended to use `self.log\(.*, sync_dist=True\)`",  # scores are already those of all processes
)
"""Beginnings (regular expressions) of warnings that need nothing to be done."""


def is_first() -> bool:
    """Whether this is the first of all processes, by Lightning's number or else torchrun's."""
    from lightning_utilities.core.rank_zero import rank_zero_only  # noqa: PLC0415  (0.2 s, and no help needs it)

    return str(getattr(rank_zero_only, "rank", os.environ.get("RANK", "0"))) == "0"


def say(*lines: str) -> None:
    """Print the lines that are not empty, in the first process only."""
    if is_first():
        for line in filter(None, lines):
            print(line, flush=True)


def warn(message: str) -> None:
    """Warn in the first process only, with the line of the caller."""
    if is_first():
        warnings.warn(message, stacklevel=2)


def quiet() -> None:
    """Hide the messages in `NOISE` and `ADVERTISING`, and the code line of warnings."""
    for name in ADVERTISING:
        logging.getLogger(name).setLevel(logging.WARNING)
    for beginning in NOISE:
        warnings.filterwarnings("ignore", beginning)
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    os.environ.setdefault(SILENT, "true")


@contextmanager
def restored() -> Iterator[None]:
    """Undo :func:`quiet` at the end, so that a Python program keeps its own warnings."""
    format_before, silent = warnings.formatwarning, os.environ.get(SILENT)
    levels = {name: logging.getLogger(name).level for name in ADVERTISING}
    try:
        with warnings.catch_warnings():
            yield
    finally:
        warnings.formatwarning = format_before
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if silent is None:
            os.environ.pop(SILENT, None)


def printable(value: Any) -> Any:
    """A text, or all texts in a JSON value, with terminal control characters escaped."""
    if isinstance(value, str):
        return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in value)
    if isinstance(value, list):
        return [printable(one) for one in value]
    if isinstance(value, dict):
        return {printable(key): printable(one) for key, one in value.items()}
    return value
