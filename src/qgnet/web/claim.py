"""One server for a folder: two of them would overwrite one another's work."""

import errno
import os
from pathlib import Path
from typing import TextIO

from qgnet.common.errors import InputError

try:
    import fcntl
except ImportError:  # of Unix alone; elsewhere nothing keeps a second server away
    fcntl = None  # type: ignore[assignment]

FILE = "server.lock"
"""In the folder of the session; what counts is not that it is there but that a process holds it."""


def claim(folder: Path) -> TextIO:
    """Claim a session's folder until what is returned is closed, or the process ends, however that happens.

    Raises:
        InputError: if another process has claimed it.
    """
    file = open(folder / FILE, "a+", encoding="utf-8")  # noqa: SIM115 - stays open
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            file.seek(0)
            holder = file.read().strip()
            file.close()
            raise InputError(
                f"Another `qgnet serve` (process {holder}) works on {folder.parent}. Use its page, or end it first."
            ) from None
        # a file system that knows no locks: nothing keeps a second server away
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file
