import os
import pickle
import sqlite3
from pathlib import Path

import cv2
import numpy as np
import pytest

from datamodules import UnlabeledDataModule
from datamodules.unlabeled import ImageFolder
from datamodules.views import region_maps
from datamodules.views.region_maps import RegionMaps
from datamodules.views.regions import segment
from qgnet.commands import main as qgnet
from qgnet.common import pool
from qgnet.common.errors import InputError

FILE = "slic-8.sqlite"


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(7):
        small = rng.integers(256, size=(5, 7, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(small, (70, 50)))
    return folder


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number per image that is cut up in this process."""
    calls: list[int] = []

    def counting(image: np.ndarray, method: str, count: int) -> np.ndarray:
        calls.append(1)
        return segment(image, method, count)

    monkeypatch.setattr(region_maps, "segment", counting)
    return calls


def filled(folder: Path, cache: Path) -> tuple[RegionMaps, ImageFolder]:
    images, maps = ImageFolder(folder, None), RegionMaps("slic", 8, cache)
    maps.fill(images)
    return maps, images


def test_kept_maps_equal_those_computed_directly(photographs: Path, tmp_path: Path, computed: list[int]) -> None:
    maps, images = filled(photographs, tmp_path / "cache")
    assert len(computed) == 7
    for i, name in enumerate(images.names):
        expected = segment(images.image(i), "slic", 8)
        assert len(np.unique(expected)) > 1
        assert np.array_equal(maps.of(images.image(i), name, images.identity(i)), expected)
    assert len(computed) == 7
    filled(photographs, tmp_path / "cache")
    assert len(computed) == 7
    assert (tmp_path / "cache" / FILE).stat().st_size < 20_000


def test_several_processes_give_the_same_file(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, images = filled(photographs, tmp_path / "one")
    monkeypatch.setattr(region_maps, "PART", 2)
    many, _ = filled(photographs, tmp_path / "many")
    for i, name in enumerate(images.names):
        assert np.array_equal(
            one.of(images.image(i), name, images.identity(i)), many.of(images.image(i), name, images.identity(i))
        )


def test_an_interrupted_pass_goes_on_where_it_was(
    photographs: Path, tmp_path: Path, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, maps = ImageFolder(photographs, None), RegionMaps("slic", 8, tmp_path)
    monkeypatch.setattr(pool, "processes", Interrupted)
    monkeypatch.setattr(region_maps, "PART", 3)
    with pytest.raises(KeyboardInterrupt):
        maps.fill(whole)
    assert len(computed) == 3
    monkeypatch.setattr(region_maps, "PART", 100)
    maps.fill(whole)
    assert len(computed) == 7


class Interrupted:
    """A pool that works in this process, and is cut off after its first part."""

    def __init__(self, job: object) -> None:
        pool._job = job

    def __enter__(self) -> "Interrupted":
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, function, parts):
        yield function(parts[0])
        raise KeyboardInterrupt


def test_other_images_of_the_same_name_are_cut_up_again(
    photographs: Path, tmp_path: Path, computed: list[int], capsys: pytest.CaptureFixture
) -> None:
    filled(photographs, tmp_path / "cache")
    cv2.imwrite(str(photographs / "3.png"), np.zeros((50, 70, 3), np.uint8))
    maps, images = filled(photographs, tmp_path / "cache")
    assert len(computed) == 8
    assert "held maps of 1 other image(s) of the same name" in capsys.readouterr().out
    assert np.array_equal(maps.of(images.image(3), "3.png", images.identity(3)), segment(images.image(3), "slic", 8))


def test_a_map_of_another_image_of_the_same_name_and_size_is_never_used(
    photographs: Path, tmp_path: Path, computed: list[int]
) -> None:
    """Uncompressed pictures of one format all have the same size, and two folders may share a cache."""
    folders, files = [tmp_path / "a", tmp_path / "b"], sorted(photographs.iterdir())
    for changed, (order, folder) in enumerate(zip((files, files[::-1]), folders, strict=True)):
        folder.mkdir()
        for i, file in enumerate(order):
            cv2.imwrite(str(folder / f"{i}.bmp"), cv2.imread(str(file)))
            os.utime(folder / f"{i}.bmp", (changed, changed))
    sizes = {path.stat().st_size for folder in folders for path in folder.iterdir()}
    assert len(sizes) == 1
    first, images = filled(folders[0], tmp_path / "cache")
    second, others = filled(folders[1], tmp_path / "cache")
    assert len(computed) == 14
    assert np.array_equal(second.of(others.image(0), "0.bmp", others.identity(0)), segment(others.image(0), "slic", 8))
    with pytest.warns(UserWarning, match=r"no region map of some images as they are now.*its own --data\.region_cache"):
        anew = first.of(images.image(0), "0.bmp", images.identity(0))
    assert np.array_equal(anew, segment(images.image(0), "slic", 8))


def test_the_open_file_stays_with_its_process(photographs: Path, tmp_path: Path) -> None:
    maps, images = filled(photographs, tmp_path)
    before = maps.of(images.image(0), "0.png", images.identity(0))
    assert np.array_equal(pickle.loads(pickle.dumps(maps)).of(images.image(0), "0.png", images.identity(0)), before)


def test_views_are_the_same_with_and_without_a_cache(photographs: Path, tmp_path: Path) -> None:
    settings = {"batch_size": 2, "global_size": 32, "local_size": 16, "held_out": 2}
    batches = []
    for cache, workers in ((None, 0), (str(tmp_path / "cache"), 2)):
        data = UnlabeledDataModule(str(photographs), region_cache=cache, num_workers=workers, **settings)
        data.prepare_data()
        data.setup("fit")
        batches.append(list(data.train_dataloader()))
    for direct, cached in zip(*batches, strict=True):
        assert (direct.local_patches == cached.local_patches).all()


def test_bad_images_are_all_found_before_training_and_the_rest_is_kept(
    photographs: Path, tmp_path: Path, computed: list[int]
) -> None:
    for i in (1, 5):
        (photographs / f"{i}.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"1\.png cannot be decoded.*\(1 more image"):
        filled(photographs, tmp_path / "cache")
    for i in (1, 5):
        (photographs / f"{i}.png").unlink()
    filled(photographs, tmp_path / "cache")
    assert len(computed) == 5


def test_a_photograph_that_was_cut_off_is_found(photographs: Path, tmp_path: Path) -> None:
    whole = photographs / "4.jpg"
    cv2.imwrite(str(whole), np.random.default_rng(0).integers(256, size=(200, 300, 3), dtype=np.uint8))
    whole.write_bytes(whole.read_bytes()[:20_000])
    with pytest.raises(InputError, match=r"4\.jpg.*truncated"):
        filled(photographs, tmp_path / "cache")


def test_a_map_that_is_not_there(photographs: Path, tmp_path: Path) -> None:
    maps, images = filled(photographs, tmp_path)
    with pytest.warns(UserWarning, match="has no region map of some images"):
        anew = maps.of(images.image(0), "unknown", images.identity(0))
    assert np.array_equal(anew, segment(images.image(0), "slic", 8))


def test_a_file_that_is_no_cache_is_named(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"something else" * 100)
    with pytest.raises(InputError, match=f"{FILE} cannot be used: file is not a database"):
        filled(photographs, tmp_path)


def test_a_folder_that_cannot_be_made_is_named(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="choose another folder"):
        filled(photographs, tmp_path / "file")


@pytest.mark.parametrize("error", [sqlite3.OperationalError("database or disk is full"), OSError(28, "No space left")])
@pytest.mark.parametrize("moment", ["connect", "_fill"])
def test_a_full_disk_stops_nothing(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, moment: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(*((RegionMaps, "_fill") if moment == "_fill" else (sqlite3, "connect")), full)
        with pytest.warns(UserWarning, match="cannot be stored .*much slower"):
            maps, images = filled(photographs, tmp_path)
    with pytest.warns(UserWarning, match="has no region map of some images"):
        found = maps.of(images.image(0), "0.png", images.identity(0))
    assert np.array_equal(found, segment(images.image(0), "slic", 8))


@pytest.mark.parametrize("method", ["grid", "random"])
def test_what_costs_nothing_is_not_kept(photographs: Path, tmp_path: Path, method: str) -> None:
    RegionMaps(method, 8, tmp_path / "cache").fill(ImageFolder(photographs, None))
    assert not (tmp_path / "cache").exists()


def test_the_command_fills_the_cache_ahead(
    photographs: Path, tmp_path: Path, workdir: Path, capsys: pytest.CaptureFixture
) -> None:
    settings = ["lightning_configs/pretrain_folder.yaml", f"--data.root={photographs}"]
    qgnet(["regions", *settings, f"--data.region_cache={tmp_path / 'cache'}"])
    assert "The region maps of 7 images are in" in capsys.readouterr().out
    assert (tmp_path / "cache/slic-16.sqlite").exists()
    with pytest.raises(SystemExit) as stop:
        qgnet(["regions", *settings, "--data.region_cache=null"])
    assert stop.value.code == 2
    assert "keeps no region maps" in capsys.readouterr().err
