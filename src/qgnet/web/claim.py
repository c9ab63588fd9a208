"""One server for a folder: two of them would overwrite one another's work."""

import os
from pathlib import Path
from typing import TextIO

from datamodules.files.writing import remove_parts
from qgnet.common.errors import InputError
from qgnet.common.locks import hold

FILE = "server.lock"
"""In the folder of the session; what counts is not that it is there but that a process holds it."""


def claim(folder: Path) -> TextIO:
    """Claim a session's folder until what is returned is closed, or the process ends, however that happens.

    Raises:
        InputError: if another process has claimed it.
    """
    file = hold(folder / FILE)
    if file is None:
        holder = (folder / FILE).read_text(encoding="utf-8").strip()
        raise InputError(
            f"Another `qgnet serve` (process {holder}) works on {folder.parent}. Use its page, or end it first."
        )
    remove_parts(folder)
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file
