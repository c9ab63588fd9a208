"""Write files atomically: a file is complete or missing."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART = ".part"
"""Ending of a file that is being written."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a unique path beside ``path`` to write to; it becomes ``path`` when the block ends without an exception.

    Any number of threads and processes may write the same file at once: each writes its own, and the last one stays.
    The unique name is short and does not grow with that of the file, so a file may have the longest name there is.

    Raises:
        OSError: if it cannot be written, with ``path`` as its ``filename``; an earlier file stays as it was.
    """
    part = path.with_name(f".{secrets.token_hex(8)}{PART}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        part.replace(path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(part)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def remove_parts(folder: Path) -> None:
    """Remove partial files of killed writers in a folder and below it. Call it only while nobody else writes there."""
    for part in folder.rglob(f".*{PART}"):
        part.unlink(missing_ok=True)
