"""Locks that end with the process that holds them, however it ends."""

import errno
import os
from pathlib import Path
from typing import TextIO

try:
    import fcntl
except ImportError:  # of Unix alone; elsewhere nobody is kept away
    fcntl = None  # type: ignore[assignment]


def hold(path: Path) -> TextIO | None:
    """Lock a file, made if there is none, until what is returned is closed or this process ends.

    Returns:
        The open file, which processes forked from here do not keep; None if another holds it. On a file system
        without locks everybody gets it.

    Raises:
        OSError: if the file cannot be opened for writing.
    """
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (stays open)
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.register_at_fork(after_in_child=file.close)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            file.close()
            return None
    return file
