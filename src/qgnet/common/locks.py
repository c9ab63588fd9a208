"""Locks that are released when their process ends, in whatever way."""

import errno
import os
from pathlib import Path
from typing import TextIO

from qgnet.common.errors import InputError

try:
    import fcntl
except ImportError:  # exists on Unix only; elsewhere there is no lock
    fcntl = None  # type: ignore[assignment]


def hold(path: Path) -> TextIO | None:
    """Lock a file until the returned file is closed or this process ends; None if another process holds it.

    A missing file is created. Forked processes do not keep the lock. A file system without locks grants it to all.
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
    """Lock a file as `hold` does, and write the number of this process into it.

    Raises InputError with the message ``busy`` if another process holds it; ``{process}`` is replaced by its number.
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
