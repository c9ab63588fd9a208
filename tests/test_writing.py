"""Files that are whole or not there."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import torch

from datamodules.files.writing import atomic_write, remove_parts
from qgnet.weights.files import save_tensors


def write(path: Path, text: str) -> None:
    with atomic_write(path) as part:
        part.write_text(text)


def test_a_file_is_written_with_its_folder_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    write(path, "one")
    write(path, "two")
    assert path.read_text() == "two"
    assert os.listdir(path.parent) == ["a.txt"]
    plain = tmp_path / "plain"
    plain.write_text("")
    assert path.stat().st_mode == plain.stat().st_mode


def test_many_may_write_one_file_at_once(tmp_path: Path) -> None:
    path, together = tmp_path / "a.txt", Barrier(6)

    def one(letter: str) -> None:
        with atomic_write(path) as part:
            together.wait()
            part.write_text(letter * 1000)
            together.wait()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, "abcdef"))
    text = path.read_text()
    assert text == text[0] * 1000
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError(), KeyboardInterrupt()]
)
def test_a_failure_leaves_the_earlier_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    write(path, "before")

    def fail() -> None:
        with atomic_write(path) as part:
            part.write_text("half")
            raise error

    with pytest.raises(type(error)) as caught:
        fail()
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.txt"]
    if isinstance(caught.value, OSError):
        assert caught.value.filename == str(path)


def test_an_error_names_the_file_and_not_what_stood_for_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"folder'$"):
        write(tmp_path / "folder", "text")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write(tmp_path / "file" / "a.txt", "text")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_file_may_have_the_longest_name_there_is(tmp_path: Path) -> None:
    write(tmp_path / ("a" * 255), "text")
    with pytest.raises(OSError, match="File name too long"):
        write(tmp_path / ("a" * 256), "text")
    assert os.listdir(tmp_path) == ["a" * 255]


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("in/.0123456789abcdef.part", "in/a.part", "in/.hidden"):
        (tmp_path / name).write_text("")
    remove_parts(tmp_path)
    assert sorted(os.listdir(tmp_path / "in")) == [".hidden", "a.part"]
    remove_parts(tmp_path / "not there")


def test_equal_tensors_give_equal_files(tmp_path: Path) -> None:
    for name in ("a.ckpt", "b.pt"):
        save_tensors(tmp_path / name, {"x": torch.ones(3)})
    assert (tmp_path / "a.ckpt").read_bytes() == (tmp_path / "b.pt").read_bytes()
