"""Region maps of many images: computed once in parallel and stored in one file, or computed on demand."""

import errno
import os
import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from datamodules.files.sources import Array
from datamodules.views.regions import Method, segment
from qgnet.common.errors import InputError
from qgnet.common.pool import in_parts

PART = 32
"""Images per job of a process."""
WAIT = 60
"""Seconds to wait while another run writes to the same file."""


class Images(Protocol):
    """Numbered images."""

    @property
    def names(self) -> Sequence[str]:
        """One unique name per image."""

    def image(self, i: int) -> Array:
        """(H, W, 3) uint8 RGB."""

    def identity(self, i: int) -> str:
        """A text that changes when the image with this name changes."""


class RegionMaps:
    """Region maps of about ``count`` regions by one method; slow methods store them in ``folder``, if given."""

    def __init__(self, method: Method, count: int, folder: Path | None) -> None:
        self.method = method
        self.count = count
        stored = folder is not None and method in ("slic", "felzenszwalb")
        self.file = folder / f"{method}-{count}.sqlite" if stored and folder is not None else None
        self._reader: tuple[int, sqlite3.Connection] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The state without the open file, which belongs to its process."""
        return self.__dict__ | {"_reader": None}

    def of(self, image: Array, name: str, identity: str) -> Array | None:
        """(H, W, 3) uint8 → (h, w) uint8 region numbers; None for ``random``.

        It is read from the file if there is one. A map that is missing there is computed, with a warning, because
        that is much slower.
        """
        if self.method == "random":
            return None
        if self.file is None:
            return segment(image, self.method, self.count)
        query = "SELECT map FROM maps WHERE name = ? AND identity = ?"
        with reported_errors(self.file):
            try:
                row = self._connection().execute(query, (name, identity)).fetchone()
            except sqlite3.OperationalError:  # no file or no table, because the disk was full
                row = None
        labels = cv2.imdecode(np.frombuffer(row[0], np.uint8), cv2.IMREAD_GRAYSCALE) if row else None
        if labels is None:
            warnings.warn(
                f"{self.file} has no region map of some images as they are now; these are divided into regions again "
                "each time, which is much slower. Start the training again, it fills the file. If another training "
                "writes maps of its own images of the same names there, give each its own --data.region_cache.",
                stacklevel=2,
            )
            return segment(image, self.method, self.count)
        return labels

    def _connection(self) -> sqlite3.Connection:
        if self._reader is None or self._reader[0] != os.getpid():
            connection = sqlite3.connect(f"{self.file.resolve().as_uri()}?mode=ro", uri=True, timeout=WAIT)  # type: ignore[union-attr]
            self._reader = (os.getpid(), connection)
        return self._reader[1]

    def fill(self, images: Images) -> None:
        """Compute the missing maps of these images in parallel and store them; an interrupted call can be resumed.

        If the disk is full, it stops with a warning, and missing maps are computed on demand. Raises InputError for
        images that cannot be read, after the maps of the others are stored.
        """
        if self.file is None:
            return
        with reported_errors(self.file), warn_if_disk_full(self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.file, timeout=WAIT)) as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS maps (name TEXT PRIMARY KEY, identity TEXT, map BLOB)")
                self._fill(images, connection)

    def _fill(self, images: Images, connection: sqlite3.Connection) -> None:
        stored = dict(connection.execute("SELECT name, identity FROM maps"))
        missing = [i for i, name in enumerate(images.names) if stored.get(name) != images.identity(i)]
        if not missing:
            return
        changed = sum(images.names[i] in stored for i in missing)
        if changed:
            print(f"{self.file} held maps of {changed} other image(s) of the same name; they are computed again.")
        bad: list[str] = []
        job = partial(segment_part, images, self.method, self.count)
        for rows, errors in in_parts(job, missing, PART, "Cutting images into regions", "image"):
            with connection:
                connection.executemany("INSERT OR REPLACE INTO maps VALUES (?, ?, ?)", rows)
            bad += errors
        if bad:
            more = f" ({len(bad) - 1} more image(s) are bad.)" if len(bad) > 1 else ""
            raise InputError(bad[0] + more)


def segment_part(
    images: Images, method: str, count: int, numbers: Sequence[int]
) -> tuple[list[tuple[str, str, bytes]], list[str]]:
    """Name, identity and map (PNG) of these images, and messages about images that cannot be read."""
    rows, bad = [], []
    for i in numbers:
        try:
            labels = segment(images.image(i), method, count)
        except InputError as error:
            bad.append(str(error))
            continue
        _, png = cv2.imencode(".png", labels)
        rows.append((images.names[i], images.identity(i), png.tobytes()))
    return rows, bad


@contextmanager
def warn_if_disk_full(file: Path) -> Iterator[None]:
    """Turn the error of a full disk into a warning."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if getattr(error, "errno", None) not in (errno.ENOSPC, errno.EDQUOT) and "disk is full" not in str(error):
            raise
        warnings.warn(
            f"The region maps in {file} cannot be stored ({error}). Images without one are divided into regions "
            "again each time, which is much slower. Free space, or choose another folder with --data.region_cache.",
            stacklevel=2,
        )


@contextmanager
def reported_errors(file: Path) -> Iterator[None]:
    """Turn errors of SQLite and the system into an InputError."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise InputError(
            f"The region maps in {file} cannot be used: {error}. Free space, remove the file if it is broken, or "
            "choose another folder with --data.region_cache."
        ) from error
