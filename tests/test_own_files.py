"""Folders, lists and indexes as people have them."""

import os
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Command
from fake_data import write_folder, write_fss, write_images, write_voc
from PIL import Image

from datamodules import FolderDataModule, Fss1000, Fss1000DataModule, LabelledFolder, Pascal5i, Pascal5iDataModule
from datamodules.datasets import fss1000
from datamodules.files.index import MaskIndex
from datamodules.files.lists import read_classes, read_list
from datamodules.unlabeled import ImageFolder
from qgnet.cli import parse
from qgnet.commands import main as qgnet
from qgnet.common import pool
from qgnet.common.errors import InputError
from qgnet.common.paths import expanded
from qgnet.config.command_line import CommandLine


def own(root: Path, count: int = 4, index_masks: bool = False) -> Path:
    """A folder of one class."""
    rng = np.random.default_rng(0)
    masks = root / "masks" / ("" if index_masks else "cat")
    masks.mkdir(parents=True)
    (root / "images").mkdir()
    for i in range(count):
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(root / f"images/i{i}.png")
        mask = np.zeros((40, 60), np.uint8)
        mask[5:30, 5 : 30 + i] = 1 if index_masks else 255
        Image.fromarray(mask).save(masks / f"i{i}.png")
    if index_masks:
        (root / "classes.yaml").write_text("1: cat\n")
    return root


def ready(root: Path, capsys: pytest.CaptureFixture, *arguments: str) -> str:
    """What a successful ``prepare`` prints."""
    qgnet(["prepare", "folder", f"--root={root}", *arguments])
    return capsys.readouterr().out


def refused(root: Path, capsys: pytest.CaptureFixture, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        qgnet(["prepare", "folder", f"--root={root}", *arguments])
    assert stop.value.code == 2
    printed = capsys.readouterr()
    return printed.out + printed.err


def set_up(root: Path, **settings: object) -> FolderDataModule:
    data = FolderDataModule(str(root), image_size=65, **settings)  # type: ignore[arg-type]
    data.setup("test")
    return data


def test_masks_and_images_may_have_any_ending(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = own(tmp_path / "own")
    os.rename(root / "masks/cat/i0.png", root / "masks/cat/i0.PNG")
    for folder in ("images", "masks/cat"):
        Image.open(root / folder / "i1.png").save(root / folder / "i1.tiff")
        (root / folder / "i1.png").unlink()
    assert "images with cat         4" in ready(root, capsys)


def test_what_systems_leave_behind_is_skipped_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = own(tmp_path / "own", index_masks=True)
    (root / "masks/.ipynb_checkpoints").mkdir()
    (root / "masks/__MACOSX").mkdir()
    (root / "masks/.DS_Store").touch()
    (root / "images/._i0.jpg").touch()
    (root / "images/holiday.heic").touch()
    Image.open(root / "images/i0.png").save(root / "images/unlabelled.png")
    printed = ready(root, capsys)
    assert "images with cat         4" in printed
    assert f"Left out of {root}/images: 1 .heic, 1 hidden or system file(s)." in printed
    assert f"Left out of {root}/masks: 3 hidden or system file(s)." in printed
    assert f"1 image(s) have no mask and are left out, e.g. {root}/images/unlabelled.png" in printed


def test_a_suffix_is_found_out_and_set(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = own(tmp_path / "own")
    for path in list((root / "masks/cat").iterdir()):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    assert "--data.mask_suffix=_mask (--mask-suffix=_mask of `qgnet prepare`)" in refused(root, capsys)
    assert "images with cat         4" in ready(root, capsys, "--mask-suffix=_mask")
    assert set_up(root, mask_suffix="_mask").images("val").names == ["i0", "i1", "i2", "i3"]


def test_names_are_compared_in_one_unicode_form(tmp_path: Path) -> None:
    root = own(tmp_path / "own")
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    assert composed != decomposed
    os.rename(root / "images/i0.png", root / f"images/{decomposed}.png")
    os.rename(root / "masks/cat/i0.png", root / f"masks/cat/{composed}.png")
    assert set_up(root).images("val").names[0] == composed


def test_masks_of_0_and_255_with_a_classes_yaml(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = own(tmp_path / "own", index_masks=True)
    for path in (root / "masks").iterdir():
        Image.fromarray(np.asarray(Image.open(path)) * 255).save(path)
    message = refused(root, capsys)
    assert "None of 4 masks holds a class" in message
    assert f"e.g. {root}/masks/i0.png: 0 (74.0%), 255 (26.0%). 0 is background and 255 is ignored." in message
    assert "write `255: <its name>` as the only line of classes.yaml" in message
    with pytest.raises(InputError, match="None of 4 masks holds a class"):
        set_up(root)
    (root / "classes.yaml").write_text("255: cat\n")
    assert "images with cat         4" in ready(root, capsys)
    mask = set_up(root).images("val").mask(0, 1)
    assert set(np.unique(mask)) == {0, 1}


def test_some_masks_without_an_object_are_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for kind in (True, False):
        root = own(tmp_path / f"own{kind}", index_masks=kind)
        path = next((root / "masks").rglob("i2.png"))
        Image.fromarray(np.full((40, 60), 255 if kind else 0, np.uint8)).save(path)
        (root / "masks/boat").mkdir() if not kind else (root / "classes.yaml").write_text("1: cat\n5: boat\n")
        printed = ready(root, capsys)
        said = f"1 mask(s) hold no class, only 0 (background) and 255 (ignored), e.g. {path}: 255"
        assert (said if kind else f"class cat: 1 mask(s) are empty, e.g. {path}") in printed
        assert "class boat has 0 image(s)" in printed
        assert set_up(root).data["val"].queries == [0, 1, 3]


def test_a_class_of_one_image_is_left_out_with_a_word(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = own(tmp_path / "own")
    (root / "masks/boat").mkdir()
    Image.open(root / "masks/cat/i0.png").save(root / "masks/boat/i0.png")
    assert "class boat has 1 image(s); an episode needs two" in ready(root, capsys)
    with pytest.warns(UserWarning, match=r"Some classes are left out.*boat \(1\)"):
        data = set_up(root)
    assert list(data.data["val"].images_of) == [2]


def test_masks_and_folders_of_masks_together_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = own(tmp_path / "own")
    Image.open(root / "masks/cat/i0.png").save(root / "masks/i0.png")
    assert "holds masks (i0.png, …) and folders of masks (cat, …)" in refused(root, capsys)


def test_two_masks_of_one_image_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = own(tmp_path / "own")
    Image.open(root / "masks/cat/i0.png").save(root / "masks/cat/i0.bmp")
    assert "have the same name" in refused(root, capsys)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_class_names_are_text(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "classes.yaml"
    file.write_bytes("1: no\r\n2: 007\r\n3: null\r\n4: 2024-01-01\r\n10: été # summer\r\n".encode(encoding))
    assert read_classes(file) == {1: "no", 2: "007", 3: "null", 4: "2024-01-01", 10: "été"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1: cat\n1: dog\n", "has the number 1 twice"),
        (b"- cat\n", "is not `number: name` lines"),
        (b"cat: 1\n", r"\(line 1\)"),
        (b"1: cat\n2:\n", r"\(line 2\)"),
        (b"names: {1: cat}\n", r"\(line 1\)"),
        (b"1: caf\xe9\n", "in UTF-8"),
        (b"1: [\n", "is not `number: name` lines"),
        (b"", "is not `number: name` lines"),
    ],
)
def test_a_classes_yaml_that_is_none_is_refused(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "classes.yaml").write_bytes(text)
    with pytest.raises(InputError, match=message):
        read_classes(tmp_path / "classes.yaml")


@pytest.mark.parametrize(
    ("line", "pairs"),
    [
        ("{}", False),
        ("{}.jpg", False),
        ("JPEGImages/{}.jpg SegmentationClassAug/{}.png", False),
        ("{}__03", True),
        ("./JPEGImages\\{}.JPG", False),
    ],
)
def test_every_form_of_list_gives_the_same_images(tmp_path: Path, line: str, pairs: bool) -> None:
    root = write_voc(tmp_path / "voc", per_class=2)
    file = root / "ImageSets/Segmentation/val.txt"
    names = file.read_text().split()
    lines = ["# a comment", "", *(line.replace("{}", name) for name in names)]
    lines += [f"{names[0]}__07"] if pairs else []
    file.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    assert read_list(file) == names
    data = Pascal5iDataModule(str(root), min_class_area=50, image_size=65)
    data.setup("test")
    assert data.images("val").names == names


def test_lists_that_cannot_be_meant(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    for content, message in (
        (b"a\na\n", "names a more than once"),
        (b"a__01\na\n", "names a more than once"),
        (b"a.jpg b.png\n", "expected one image id"),
        (b"\xff\xfe\x00", "not a text file in UTF-8"),
        (b"# only\n", "is empty"),
    ):
        file.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_list(file)


def test_a_voc_tree_with_other_endings(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", per_class=1)
    (root / "JPEGImages/val_000.jpg").rename(root / "JPEGImages/val_000.JPG")
    Image.open(root / "SegmentationClassAug/val_001.png").save(root / "SegmentationClassAug/val_001.tif")
    (root / "SegmentationClassAug/val_001.png").unlink()
    assert not MaskIndex.build(Pascal5i(root).images("val")).bad


def test_fss_as_the_archive_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    root = write_fss(tmp_path / "fss", images=10)
    monkeypatch.setattr(fss1000, "FSS_EXPECTED", {"train": 6, "val": 3, "test": 3})
    large = np.asarray(Image.open(root / "class_09/8.png").resize((130, 126), Image.Resampling.NEAREST))
    Image.fromarray(large).save(root / "class_09/8.png")
    Image.open(root / "class_09/7.jpg").save(root / "class_09/7.png")  # a photograph
    Image.open(root / "class_09/1.jpg").save(root / "class_09/1.jpeg")
    for split, other in (("train", "trn"), ("test", "tst")):
        (root / f"splits/{split}.txt").rename(root / f"splits/{other}.txt")
    qgnet(["prepare", "fss1000", f"--root={root}"])
    printed = capsys.readouterr().out
    assert "8.png is 130x126 px, its image 64x64 px: resized with nearest-neighbour" in printed
    assert "7.png holds" in printed
    assert "Its brighter half is taken." in printed
    source = Fss1000(root).images_of([10])
    assert len(source.names) == 10
    rows, columns = np.arange(64) * 126 // 64, np.arange(64) * 130 // 64
    assert np.array_equal(source.mask(7, 10), large[rows][:, columns, 0] // 255)
    photograph = np.asarray(Image.open(root / "class_09/7.png").convert("L"))
    assert np.array_equal(source.mask(6, 10) == 1, photograph >= 128)
    assert Fss1000DataModule(str(root)).novel_classes == [10, 11, 12]


def test_a_failed_prepare_leaves_nothing_that_a_training_trusts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = write_folder(tmp_path / "own", binary=False)
    photograph = root / "images/002.jpg"
    whole = photograph.read_bytes()
    photograph.write_bytes(whole[:-100])
    assert "1 image(s) are bad" in refused(root, capsys)
    with pytest.raises(InputError, match=r"002\.jpg cannot be decoded"):
        set_up(root)
    ready(root, capsys, "--skip-bad")
    assert 2 not in set_up(root).data["val"].queries
    assert "1 image(s) are bad" in refused(root, capsys)  # without --skip-bad: the earlier one counts no longer
    with pytest.raises(InputError, match=r"002\.jpg cannot be decoded"):
        set_up(root)
    photograph.write_bytes(whole)
    assert 2 in set_up(root).data["val"].queries


def test_linked_folders_of_images_are_followed(tmp_path: Path) -> None:
    write_images(tmp_path / "elsewhere", count=3)
    (tmp_path / "root").mkdir()
    (tmp_path / "root/images").symlink_to("../elsewhere")
    (tmp_path / "elsewhere/loop").symlink_to("../root")
    found = ImageFolder(tmp_path / "root", None)
    assert found.names == ["images/class_0/000.png", "images/class_1/001.png", "images/class_2/002.png"]
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf# some\r\nclass_1\\001.png\r\n\r\nimages/class_2/002\r\n")
    with pytest.raises(InputError, match=rf"not under {tmp_path}/root, e.g. class_1/001.png"):
        ImageFolder(tmp_path / "root", tmp_path / "list.txt")
    (tmp_path / "list.txt").write_bytes(
        b"\xef\xbb\xbf# some\r\n.\\images\\class_1\\001.png\r\n\r\nimages/class_2/002\r\n"
    )
    assert ImageFolder(tmp_path / "root", tmp_path / "list.txt").names == found.names[1:]


def test_processes_by_the_cores_that_the_job_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(pool, "GROUPS", tmp_path)
    monkeypatch.setattr(pool, "OWN_GROUPS", tmp_path / "own")
    assert pool.cores() == 64
    (tmp_path / "own").write_text("0::/jobs/mine\n")
    (tmp_path / "jobs/mine").mkdir(parents=True)
    (tmp_path / "jobs/mine/cpu.max").write_text("max 100000\n")
    assert pool.cores() == 64
    (tmp_path / "jobs/cpu.max").write_text("350000 100000\n")
    assert pool.cores() == 4
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("20000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert pool.cores() == 1
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    assert pool.cores() == 4


def test_pool_processes_keep_opencv_to_one_thread() -> None:
    with pool.processes() as processes:
        assert processes.submit(cv2.getNumThreads).result() == 1


def test_paths_are_expanded_in_yaml_and_on_the_command_line(
    tmp_path: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    root = own(tmp_path / "own")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OWN", str(root))
    (workdir / "own.yaml").write_text("data:\n  class_path: FolderDataModule\n  init_args:\n    root: ${OWN}\n")
    random = ["--model.prior_weights=random", "--model.encoder_weights=random"]
    folder = ["--config=lightning_configs/folder.yaml", *random]
    for arguments in (["--data.root=~/own"], ["--data.root=$OWN"], ["--config=own.yaml"]):
        _, data = parse([*folder, *arguments])
        assert data.dataset.root == root
    any_data = ["--data=EpisodeDataModule", "--data.dataset=LabelledFolder", "--data.dataset.root=~/own"]
    line = CommandLine("fit", ["--model=FewShotSegmentation", *random, *any_data])
    assert str(line.config.data.init_args.dataset.init_args.root) == str(root)
    data = line.instantiate().data
    assert data.dataset.root == LabelledFolder("$OWN").root == root
    with pytest.raises(InputError, match=r"names the variable \$NONE, which is not set"):
        parse([*folder, "--data.root=$NONE/x"])
    ready(Path("~/own"), capsys)
    ready(Path("$OWN"), capsys)
    assert "names the variable $NONE" in refused(Path("$NONE/x"), capsys)
    assert expanded("imagenet") == Path("imagenet")


def test_a_run_in_the_home_folder(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    command("test", "folder.yaml", "--run=~/run")
    assert (tmp_path / "home/run/results.json").exists()
    assert not (tmp_path / "~").exists()
