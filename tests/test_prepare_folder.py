"""Preparing what lies in folders already: FSS-1000 and a folder of one's own."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from fake_data import FOLDER_CLASSES, write_folder, write_fss
from PIL import Image
from test_prepare import fails

from datamodules import FolderDataModule
from datamodules.datasets import fss1000
from qgnet.commands import main as qgnet
from qgnet.common.errors import InputError


def test_fss_is_checked_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    root = write_fss(tmp_path / "fss", images=10)
    assert "7 count(s) differ" in fails(capsys, "prepare", "fss1000", f"--root={root}")
    monkeypatch.setattr(fss1000, "FSS_EXPECTED", {"train": 6, "val": 3, "test": 3})
    qgnet(["prepare", "fss1000", f"--root={root}"])
    shutil.rmtree(root / "splits")
    message = fails(capsys, "prepare", "fss1000", f"--root={root}")
    assert "github.com/HKUSTCV/FSS-1000" in message
    assert "splits/train.txt (520)" in message


@pytest.mark.parametrize("binary", [True, False])
def test_folder_is_checked_and_counted(tmp_path: Path, binary: bool, capsys: pytest.CaptureFixture) -> None:
    root = write_folder(tmp_path / "own", binary)
    qgnet(["prepare", "folder", f"--root={root}"])
    printed = capsys.readouterr().out
    for name in FOLDER_CLASSES:
        assert f"images with {name}" in printed
    assert "is taken as any other" not in printed
    assert FolderDataModule(str(root)).class_names == dict(enumerate(FOLDER_CLASSES, start=1))
    (root / "images/000.jpg").unlink()
    assert "000.png has no image in" in fails(capsys, "prepare", "folder", f"--root={root}")


def test_a_class_that_may_be_none_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = write_folder(tmp_path / "own", binary=True)
    (root / "masks/drum").rename(root / "masks/Background")
    qgnet(["prepare", "folder", f"--root={root}"])
    assert "note: class Background is taken as any other. If it is none, leave its pixels 0" in capsys.readouterr().out


def test_mistakes_in_a_folder(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "own", binary=False)
    with pytest.raises(InputError, match=r"names hat, but .* has the classes apple, boot, cup, drum"):
        FolderDataModule(str(root), novel=["hat"]).setup("test")
    with pytest.raises(InputError, match="Training needs base classes"):
        FolderDataModule(str(root)).setup("fit")
    for text, message in [("apple, boot", "not `number: name`"), ("0: apple", "expected numbers from 1 to 254")]:
        (root / "classes.yaml").write_text(text)
        with pytest.raises(InputError, match=message):
            FolderDataModule(str(root)).setup("test")
    (root / "classes.yaml").unlink()
    with pytest.raises(InputError, match=r"classes.yaml does not exist. Expected images/<name>.jpg"):
        FolderDataModule(str(root)).setup("test")


def test_bad_files_are_listed_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = write_folder(tmp_path / "own", binary=False)
    photograph = root / "images/002.jpg"
    photograph.write_bytes(photograph.read_bytes()[:-100])
    Image.fromarray(np.full((60, 80), 9, np.uint8)).save(root / "masks/006.png")
    message = fails(capsys, "prepare", "folder", f"--root={root}")
    assert "2 image(s) are bad, listed above" in message
    qgnet(["prepare", "folder", f"--root={root}", "--skip-bad"])
    printed = capsys.readouterr().out
    assert "bad: folder 002: " in printed
    assert "006.png holds the value 9" in printed
    data = FolderDataModule(str(root), novel=["cup"], image_size=65, min_class_area=50)
    data.setup("fit")
    assert "2 bad image(s) of train are left out, as `qgnet prepare` was told." in capsys.readouterr().out
    for episodes in data.data.values():
        used = {episodes.source.names[i] for images in episodes.images_of.values() for i in images}
        assert not used & {"002", "006"}
