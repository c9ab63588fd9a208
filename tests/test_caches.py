"""Indexes and region maps: never stale, never half-written, and not needed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_data import write_coco, write_folder, write_images
from test_own_files import own, set_up

from datamodules.files import index
from datamodules.files.index import MaskIndex
from datamodules.prepare.coco_masks import draw_masks
from datamodules.unlabeled import ImageFolder
from datamodules.views.region_maps import RegionMaps
from qgnet.common.errors import InputError


def test_bad_images_are_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that could not be read keeps its size and time when its owner allows to read it."""
    root = own(tmp_path / "own")
    source = set_up(root).images("val")
    file, real = tmp_path / "index.npz", type(source).facts

    def denied(self: object, i: int, whole: bool) -> object:
        if i == 1:
            raise InputError("permission denied")
        return real(self, i, whole)

    monkeypatch.setattr(type(source), "facts", denied)
    assert list(MaskIndex.cached(source, file).bad) == [1]
    monkeypatch.setattr(type(source), "facts", real)
    assert not MaskIndex.cached(source, file).bad
    assert MaskIndex.cached(source, file).facts[1].areas


def test_the_index_follows_class_folders(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "own", binary=True)
    before = set_up(root).data["val"].images_of
    masks = root / "masks"
    (masks / "apple").rename(masks / "swap")
    (masks / "boot").rename(masks / "apple")
    (masks / "swap").rename(masks / "boot")
    swapped = set_up(root).data["val"].images_of
    assert (swapped[1], swapped[2]) == (before[2], before[1])
    (masks / "drum").rename(masks / "aardvark")
    renamed = set_up(root).data["val"].images_of
    assert renamed[1] == before[4]
    assert renamed[2] == before[2]
    (masks / "aaa").mkdir()
    assert set_up(root).data["val"].images_of[2] == before[4]


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"PK\x03\x04", b"no index"])
def test_an_index_that_is_none_is_built_anew(tmp_path: Path, content: bytes) -> None:
    root = own(tmp_path / "own")
    before = set_up(root).data["val"].images_of
    (root / "mask_index/folder.npz").write_bytes(content)
    assert set_up(root).data["val"].images_of == before
    assert len((root / "mask_index/folder.npz").read_bytes()) > 100


def test_a_full_disk_or_no_home_for_the_index_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = own(tmp_path / "own")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert len(index.locations(tmp_path / "a.npz")) == 1

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(UserWarning, match=r"cannot be stored .*No space left on device"):
        assert set_up(root).data["val"].queries == [0, 1, 2, 3]
    assert not list((root / "mask_index").iterdir())


def test_a_killed_index_is_not_trusted(tmp_path: Path) -> None:
    """Killed while it writes the file: the next start reads the masks again."""
    root = own(tmp_path / "own")
    code = (
        "import sys, os, numpy as np\n"
        "def savez(stream, **_):\n    stream.write(b'PK half'); stream.flush(); os.kill(os.getpid(), 9)\n"
        "np.savez = savez\nfrom qgnet.commands import main\nmain(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "prepare", "folder", f"--root={root}"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL
    assert not (root / "mask_index/folder.npz").exists()
    assert set_up(root).data["val"].queries == [0, 1, 2, 3]


def test_a_picture_that_changes_within_the_second_is_another(tmp_path: Path) -> None:
    images = ImageFolder(write_images(tmp_path / "images"), None)
    path = tmp_path / "images" / images.names[0]
    os.utime(path, ns=(10**18, 10**18))
    before = images.identity(0)
    os.utime(path, ns=(10**18, 10**18 + 1))
    assert images.identity(0) != before


KILLED = """
import os
import sys
from pathlib import Path
from datamodules.prepare import coco_masks
from datamodules.views import region_maps
from datamodules.views.region_maps import RegionMaps
from datamodules.unlabeled import ImageFolder
from qgnet.common import pool

class Pool:
    def __init__(self, job=None):
        pool._job = job
    def __enter__(self):
        return self
    def __exit__(self, *_):
        pass
    def map(self, function, *lists, **_):
        for count, arguments in enumerate(zip(*lists)):
            if count == 2:
                os.kill(os.getpid(), 9)
            yield function(*arguments)

coco_masks.processes = pool.processes = Pool
region_maps.PART = 2
source, target = map(Path, sys.argv[1:])
if source.suffix == ".json":
    coco_masks.draw_masks(source, target, "val2014", "full", "ignore")
else:
    region_maps.RegionMaps("slic", 8, target).fill(ImageFolder(source, None))
"""


def killed(source: Path, target: Path) -> None:
    process = subprocess.run([sys.executable, "-c", KILLED, source, target], capture_output=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr


def test_killed_region_maps_go_on(tmp_path: Path) -> None:
    images = ImageFolder(write_images(tmp_path / "images"), None)
    killed(tmp_path / "images", tmp_path / "killed")
    kept = []
    for folder in ("killed", "whole"):
        maps = RegionMaps("slic", 8, tmp_path / folder)
        maps.fill(images)
        kept.append([maps.of(images.image(i), name, images.identity(i)) for i, name in enumerate(images.names)])
    assert all(np.array_equal(one, other) for one, other in zip(*kept, strict=True))


def test_killed_coco_masks_go_on(tmp_path: Path) -> None:
    annotations = write_coco(tmp_path / "coco", per_class=1) / "annotations/instances_val2014.json"
    killed(annotations, tmp_path / "killed")
    assert len(list((tmp_path / "killed/val2014").iterdir())) == 2
    assert not (tmp_path / "killed/val2014.txt").exists()  # without the list nobody reads them
    for folder in ("killed", "whole"):
        draw_masks(annotations, tmp_path / folder, "val2014", "full", "ignore")
    files = [
        sorted(path.relative_to(tmp_path / f) for path in (tmp_path / f).rglob("*.*")) for f in ("killed", "whole")
    ]
    assert files[0] == files[1]
    assert all((tmp_path / "killed" / f).read_bytes() == (tmp_path / "whole" / f).read_bytes() for f in files[0])
