"""Locks that end with the process that holds them, however it ends."""

import errno
import os
from pathlib import Path
from typing import TextIO

from qgnet.common.errors import InputError

try:
    import fcntl
except ImportError:  # of Unix alone; elsewhere nobody is kept away
    fcntl = None  # type: ignore[assignment]


def hold(path: Path) -> TextIO | None:
    """Lock a file, made if there is none, until what is returned is closed or this process ends; None if it is locked.

    Processes forked from here do not keep it. On a file system without locks everybody gets it.
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


def claim(path: Path, busy: str) -> TextIO:
    """Lock a file as `hold` does, and leave this process's number in it.

    If another process holds it, InputError says ``busy``, in which ``{process}`` stands for that one's number.
    """
    file = hold(path)
    if file is None:
        raise InputError(busy.replace("{process}", path.read_text(encoding="utf-8").strip()))
    try:
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"{os.getpid()}\n".encode())
    except OSError as error:  # which does not name the file
        file.close()
        raise OSError(error.errno, error.strerror, str(path)) from error
    return file
