"""Download files and unpack archives: resumed, checked, and never incomplete.

Of the ten download tests in ``tests/test_download.py``, eight fail with pooch 1.9 and eight with torchvision's
``download_url``. Two of each eight fail because of the way the tests are written. The others fail because neither
library resumes an incomplete file or a broken connection (torchvision also requests a file twice).
"""

import errno
import hashlib
import shutil
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO

from datamodules.files.writing import atomic_write
from datamodules.prepare.remote import DOWNLOADS, RemoteFile
from qgnet.common.errors import InputError
from qgnet.common.progress import Progress, progress

BLOCK = 1 << 20
TIMEOUT = 30.0
"""Seconds to wait for a byte."""
ATTEMPTS = 10
"""Attempts to get a file over broken connections before the command gives up."""

Wanted = Callable[[str], Path | None]
"""Name of an archive's member → path to write it to; None skips it."""


def fetch_archive(file: RemoteFile, root: Path, wanted: Wanted) -> None:
    """Download an archive into the data set's download folder, unless it is there, and extract the wanted files."""
    extract(download(file, root / DOWNLOADS), wanted)


def download(file: RemoteFile, folder: Path) -> Path:
    """Download a file into ``folder`` with a progress bar, resuming an interrupted download; return its path.

    The file is ``<name>.part`` until it is complete and its md5 is correct.

    Raises:
        InputError: if the download fails, the disk is full, or the new or existing file has the wrong md5.
    """
    target = folder / file.name
    if target.exists():
        check_md5(target, file, f"Remove {target} and run this again.")
        return target
    part = target.with_name(f"{target.name}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fetch(file.url, part)
    except urllib.error.HTTPError as error:
        reason = f"the server responds with {error.code} {error.reason}"
        raise InputError(f"{file.url} cannot be had: {reason}. {manual_download(file, target)}") from None
    except (urllib.error.URLError, ConnectionError, HTTPException) as error:
        again = "Run this again: it resumes where it broke off."
        raise InputError(f"{file.url} cannot be had ({error}). {again} {manual_download(file, target)}") from None
    except OSError as error:
        raise InputError(write_error(error, part)) from None
    check_md5(part, file, "What was fetched has been removed; run this again.", remove=True)
    part.replace(target)
    return target


def manual_download(file: RemoteFile, target: Path) -> str:
    """Advice for a user without network."""
    return f"Without network: fetch it elsewhere and put it to {target} (md5 {file.md5})."


def write_error(error: OSError, path: Path) -> str:
    """Message for a file that cannot be written; other errors are raised again."""
    if error.errno == errno.ENOSPC:
        return f"The disk is full: {path} cannot be written. Free space and run this again: it resumes there."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return f"{path} cannot be written ({error.strerror}). Choose another --root, or get the right to write there."
    raise error


def fetch(url: str, part: Path) -> None:
    """Download ``part`` completely; resume after a broken connection."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            fetch_rest(url, part, part.stat().st_size if part.exists() else 0)
            return
        except ConnectionError:
            if attempt == ATTEMPTS:
                raise


def fetch_rest(url: str, part: Path, start: int) -> None:
    """Append the rest of the file from byte ``start``; ConnectionError if the response is incomplete."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # no more bytes: the part is complete, or belongs to another file
            return
        raise
    with response:
        if response.status != 206:  # the server sends only whole files
            start = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise ConnectionError(f"asked for the bytes from {start:,} on, the server gives others")
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        with open(part, "ab" if start else "wb") as stream, download_bar(part, start, total) as got:
            while block := read(response):
                stream.write(block)
                got.update(len(block))
    if total is not None and part.stat().st_size < total:
        raise ConnectionError(f"the connection broke after {part.stat().st_size:,} of {total:,} bytes")


def read(response: IO[bytes]) -> bytes:
    """The next block; errors of the network become a ConnectionError, to separate them from errors of the disk."""
    try:
        return response.read(BLOCK)
    except (OSError, HTTPException) as error:
        raise ConnectionError(f"the connection broke: {error}") from error


def download_bar(part: Path, start: int, total: int | None) -> Progress[None]:
    """The progress bar of a download."""
    return progress(None, part.stem, total, initial=start, unit="B", unit_scale=True, unit_divisor=1024)


def check_md5(path: Path, file: RemoteFile, remedy: str, remove: bool = False) -> None:
    """Raise InputError if a file has the wrong md5; with ``remove``, delete the file first."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != file.md5:
        if remove:
            path.unlink()
        raise InputError(f"{path} has the md5 {digest.hexdigest()}; expected {file.md5} for {file.url}. {remedy}")


def extract(archive: Path, wanted: Wanted) -> int:
    """Unpack the wanted regular files of a .zip or a .tar that do not exist yet; return their number.

    Raises:
        InputError: if a member's path leads out of the folder, the archive is broken, or the disk is full.
    """
    written = 0
    try:
        for name, stream in progress(members(archive), f"Unpacking {archive.name}", unit="file"):
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
                raise InputError(
                    f"{archive} holds {name}, which leads out of its folder. The archive is not what it should be; "
                    "remove it and fetch it from its source."
                )
            target = wanted(name)
            if target is not None and not target.exists():
                write(stream, target)
                written += 1
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError) as error:
        raise InputError(f"{archive} is broken ({error}). Remove it and run this again.") from None
    except OSError as error:
        if isinstance(error, FileNotFoundError) or error.errno is not None:
            raise InputError(write_error(error, archive.parent)) from None
        raise InputError(f"{archive} is broken ({error}). Remove it and run this again.") from None  # gzip's own
    return written


def members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each regular file, without links and devices."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                if not entry.is_dir() and not stat.S_ISLNK(entry.external_attr >> 16):
                    with opened.open(entry) as stream:
                        yield entry.filename, stream
        return
    with tarfile.open(archive, "r|*") as tar:
        for member in tar:
            stream_ = tar.extractfile(member) if member.isreg() else None
            if stream_ is not None:
                yield member.name, stream_


def write(stream: IO[bytes], target: Path) -> None:
    """Copy to ``target`` atomically; an incomplete copy is removed."""
    with atomic_write(target) as part, open(part, "wb") as out:
        shutil.copyfileobj(stream, out, BLOCK)
