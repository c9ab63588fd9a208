"""One server for a folder: two of them would overwrite one another's work."""

from pathlib import Path
from typing import TextIO

from datamodules.files.writing import remove_parts
from qgnet.common import locks

FILE = "server.lock"
"""In the folder of the session; what counts is not that it is there but that a process holds it."""


def claim(folder: Path) -> TextIO:
    """Claim a session's folder until what is returned is closed, or the process ends, however that happens.

    Raises:
        InputError: if another process has claimed it.
    """
    busy = f"Another `qgnet serve` (process {{process}}) works on {folder.parent}. Use its page, or end it first."
    file = locks.claim(folder / FILE, busy)
    remove_parts(folder)
    return file
