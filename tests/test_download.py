import errno
import hashlib
import http.client
import http.server
import io
import socket
import stat
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from datamodules.prepare import download
from datamodules.prepare.download import RemoteFile, extract
from qgnet.common.errors import InputError

CONTENT = np.random.default_rng(0).bytes(3_000_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT under any name; can break off, deny ranges, or say 404."""

    breaks: int = 0
    """So many answers are cut off."""
    after = 1_000_000
    """Bytes that a broken answer still gives."""
    ranges = True
    shift = 0
    """Bytes by which a range is answered wrongly."""
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.file = RemoteFile(f"http://127.0.0.1:{self.server_address[1]}/archive.tar", MD5)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A broken connection is what is tested."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        if start:
            first = start + self.server.shift
            self.send_header("Content-Range", f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        broken = self.server.breaks > 0
        self.server.breaks -= broken
        self.wfile.write(CONTENT[start : start + self.server.after if broken else None])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield serving
        serving.shutdown()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_whole_file_once(server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        path = download.download(server.file, tmp_path / "new")
    assert path.read_bytes() == CONTENT
    assert left(tmp_path / "new") == ["archive.tar"]
    assert server.asked == [None]


def test_a_break_is_taken_up_where_it_was(server: Server, tmp_path: Path) -> None:
    server.breaks = 2
    assert download.download(server.file, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000000-", "bytes=2000000-"]


def test_a_server_without_ranges_begins_anew(server: Server, tmp_path: Path) -> None:
    server.breaks, server.ranges = 1, False
    assert download.download(server.file, tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_later_call_goes_on(server: Server, tmp_path: Path) -> None:
    server.breaks, server.after = 100, 0
    (tmp_path / "archive.tar.part").write_bytes(CONTENT[:700_000])
    with pytest.raises(InputError, match="it resumes where it broke off") as error:
        download.download(server.file, tmp_path)
    assert str(tmp_path / "archive.tar") in str(error.value)
    assert left(tmp_path) == ["archive.tar.part"]
    assert (tmp_path / "archive.tar.part").stat().st_size == 700_000
    assert len(server.asked) == download.ATTEMPTS
    server.breaks = 0
    assert download.download(server.file, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=700000-"


def test_a_complete_part_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "archive.tar.part").write_bytes(CONTENT)
    assert download.download(server.file, tmp_path).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_a_wrong_range_is_not_appended(server: Server, tmp_path: Path) -> None:
    server.shift = 5
    (tmp_path / "archive.tar.part").write_bytes(CONTENT[:700_000])
    with pytest.raises(InputError, match="the server gives others"):
        download.download(server.file, tmp_path)
    assert (tmp_path / "archive.tar.part").read_bytes() == CONTENT[:700_000]


def test_a_network_that_fails_while_reading_is_not_taken_for_the_disk(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(self: http.client.HTTPResponse, amount: int | None = None) -> bytes:
        raise OSError(errno.EHOSTUNREACH, "No route to host")

    monkeypatch.setattr(http.client.HTTPResponse, "read", unreachable)
    with pytest.raises(InputError, match=r"No route to host.*it resumes where it broke off"):
        download.download(server.file, tmp_path)
    assert len(server.asked) == download.ATTEMPTS


def test_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    wrong = RemoteFile(server.file.url, "0" * 32)
    with pytest.raises(InputError, match=f"has the md5 {MD5}; expected {'0' * 32}"):
        download.download(wrong, tmp_path)
    assert left(tmp_path) == []
    (tmp_path / "archive.tar").write_bytes(b"other")
    with pytest.raises(InputError, match=r"Remove .*archive.tar and run this again"):
        download.download(server.file, tmp_path)
    assert (tmp_path / "archive.tar").read_bytes() == b"other"


def test_not_found_and_no_network(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(InputError, match="the server responds with 404") as error:
        download.download(server.file, tmp_path)
    assert f"put it to {tmp_path / 'archive.tar'} (md5 {MD5})" in str(error.value)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    closed = RemoteFile(f"http://127.0.0.1:{port}/archive.tar", MD5)
    with pytest.raises(InputError, match="refused"):
        download.download(closed, tmp_path)


class FullDisk(io.FileIO):
    """A file on a disk with room for one block."""

    room = 1

    def write(self, data: Any) -> int:
        if FullDisk.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        FullDisk.room -= 1
        return super().write(data)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> IO:
        return FullDisk(path, mode) if mode in ("wb", "ab") else open(path, mode, *args, **kwargs)

    FullDisk.room = 1
    monkeypatch.setattr(download, "open", fill, raising=False)


def test_full_disk_while_downloading(server: Server, tmp_path: Path, full_disk: None) -> None:
    with pytest.raises(InputError, match="The disk is full"):
        download.download(server.file, tmp_path)
    assert left(tmp_path) == ["archive.tar.part"]
    FullDisk.room = 1000
    assert download.download(server.file, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == f"bytes={download.BLOCK}-"


def test_full_disk_while_unpacking(tmp_path: Path, full_disk: None) -> None:
    archive = packed(tmp_path, "a.tgz", {"a.bin": CONTENT})
    with pytest.raises(InputError, match="The disk is full"):
        extract(archive, lambda name: tmp_path / "out" / name)
    assert left(tmp_path / "out") == []


def packed(folder: Path, name: str, files: dict[str, bytes]) -> Path:
    path = folder / name
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            link = zipfile.ZipInfo("link")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, "/etc/passwd")
            for member, content in files.items():
                archive.writestr(member, content)
        return path
    with tarfile.open(path, "w:gz") as tar:
        member_ = tarfile.TarInfo("link")
        member_.type, member_.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member_)
        for member, content in files.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", ["a.zip", "a.tgz"])
def test_unpacks_what_is_wanted_once(tmp_path: Path, kind: str) -> None:
    archive = packed(tmp_path, kind, {"x/one.txt": b"1", "x/two.txt": b"22", "y/three.txt": b"333"})

    def wanted(name: str) -> Path | None:
        return tmp_path / "out" / name if name.startswith("x/") or name == "link" else None

    assert extract(archive, wanted) == 2
    assert left(tmp_path / "out") == ["x"]
    assert (tmp_path / "out/x/two.txt").read_bytes() == b"22"
    assert left(tmp_path / "out/x") == ["one.txt", "two.txt"]
    assert extract(archive, wanted) == 0


@pytest.mark.parametrize("kind", ["a.zip", "a.tgz"])
@pytest.mark.parametrize("evil", ["../evil.txt", "/evil.txt", "x/../../evil.txt"])
def test_members_outside_are_refused(tmp_path: Path, kind: str, evil: str) -> None:
    (tmp_path / "in").mkdir()
    archive = packed(tmp_path / "in", kind, {evil: b"evil"})
    with pytest.raises(InputError, match="leads out of its folder"):
        extract(archive, lambda name: Path(f"{tmp_path}/in/out/{name}"))
    assert not list(tmp_path.rglob("evil.txt"))


@pytest.mark.parametrize("kind", ["a.zip", "a.tgz"])
def test_truncated_archive(tmp_path: Path, kind: str) -> None:
    archive = packed(tmp_path, kind, {"a.bin": CONTENT})
    archive.write_bytes(archive.read_bytes()[:-1_000_000])
    with pytest.raises(InputError, match="is broken"):
        extract(archive, lambda name: tmp_path / "out" / name)
    assert not list(tmp_path.rglob("*.bin*"))
