"""No DataModule's test asks for a class that its training has seen labelled, over real commands."""

import json
import warnings
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import yaml
from conftest import Command
from fake_data import write_folder, write_fss

from datamodules import EpisodeDataModule, FolderDataModule, Fss1000DataModule, Pascal5iDataModule, Synthetic
from datamodules.datasets.protocols import PROTOCOLS, Protocol
from datamodules.files.classes import canonical_class
from qgnet.commands import main as qgnet
from qgnet.common.errors import InputError
from qgnet.tasks.segmentation import FewShotSegmentation

LAST = "runs/x/checkpoints/last.ckpt"
SETTINGS = {
    "pascal5i.yaml": (["--data.fold=0"], ["--data.fold=1"], "aeroplane, bicycle"),
    "coco20i.yaml": (["--data.fold=0"], ["--data.protocol.coco_folds=contiguous"], "bicycle, car"),
    "folder.yaml": (["--data.novel=[cup]"], ["--data.novel=[boot, cup]"], "boot"),
    "demo/qgnet.yaml": (["--data.fold=2"], ["--data.fold=0"], "disc"),
}


def refused(command: Command, capsys: pytest.CaptureFixture, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        command(*arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("config", SETTINGS)
def test_classes_that_were_trained_on_are_refused_by_name(
    command: Command, capsys: pytest.CaptureFixture, config: str
) -> None:
    training, leaking, name = SETTINGS[config]
    command("fit", config, *training, "--run=runs/x")
    kept = torch.load(LAST, weights_only=True)["classes"]
    assert not set(kept["base"]) & set(kept["novel"])
    for subcommand in ("test", "validate", "fit"):
        error = refused(command, capsys, subcommand, config, *leaking, f"--ckpt_path={LAST}")
        assert name.split(", ")[-1] in error
        assert ("data.novel" in error) <= (config == "folder.yaml")
        assert kept["novel"][0] in error
        assert "asked for as novel, but this checkpoint was trained on" in error
    with pytest.warns(UserWarning, match="this checkpoint was trained on"):
        command("predict", config, *leaking, f"--ckpt_path={LAST}", "--run=runs/p")
    command("test", config, *training, f"--ckpt_path={LAST}", "--run=runs/t")
    assert json.loads(Path("runs/t/results.json").read_text())["trained_classes"] == []


def test_fss_is_tested_on_the_other_lists_and_never_on_a_list_with_a_base_class(
    command: Command, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    root = f"--data.root={write_fss(tmp_path / 'fss')}"
    command("fit", "fss1000.yaml", root, "--run=runs/x")
    for split in ("val", "test"):
        command("test", "fss1000.yaml", root, f"--ckpt_path={LAST}", f"--data.evaluate={split}", f"--run=runs/{split}")
    lists = tmp_path / "fss/splits"
    train = (lists / "train.txt").read_text()
    (lists / "test.txt").write_text("class_00\nclass_09\n")
    error = refused(command, capsys, "fit", "fss1000.yaml", root)
    assert "class_00 is a base class and a novel class" in error
    (lists / "train.txt").write_text(train.replace("class_00\n", ""))
    error = refused(command, capsys, "test", "fss1000.yaml", root, f"--ckpt_path={LAST}")
    assert "class_00: asked for as novel" in error


def test_meant_leaks_are_said_in_result_and_report(command: Command, capsys: pytest.CaptureFixture) -> None:
    command("fit", "folder.yaml", "--data.novel=[cup]")
    for checkpoint in ("last", "best"):
        error = refused(command, capsys, "test", "folder.yaml", "--data.novel=[boot]", f"--ckpt_path={checkpoint}")
        assert "boot" in error
        assert "--allow_trained_classes true" in error
    meant = ["--data.novel=[boot]", "--ckpt_path=last", "--allow_trained_classes=true"]
    with pytest.warns(UserWarning, match="trained on it"):
        command("test", "folder.yaml", *meant)
    command("test", "folder.yaml", "--data.novel=[cup]", "--ckpt_path=last")
    capsys.readouterr()
    qgnet(["report", "runs"])
    assert capsys.readouterr().out.count("on classes that were trained on: boot") == 1
    last = next(Path("runs/folder").glob("*/checkpoints/last.ckpt"))
    command(
        "fit",
        "folder.yaml",
        *meant,
        f"--ckpt_path={last}",
        "--trainer.max_epochs=2",
        "--trainer.max_steps=-1",
        "--run=runs/y",
    )
    saved = torch.load("runs/y/checkpoints/last.ckpt", weights_only=True)["classes"]  # of both trainings
    assert set(saved["base"]) == {"apple", "boot", "cup", "drum"}


def test_checkpoints_that_do_not_tell_their_classes_still_work(command: Command) -> None:
    command("fit", "pascal5i.yaml", "--run=runs/x")
    old = torch.load(LAST, weights_only=True)
    del old["classes"]
    torch.save(old, "old.ckpt")
    with pytest.warns(UserWarning, match="does not record its training classes"):
        command("test", "pascal5i.yaml", "--data.fold=1", "--ckpt_path=old.ckpt", "--run=runs/t")
    assert json.loads(Path("runs/t/results.json").read_text())["trained_classes"] is None
    command(
        "fit",
        "pascal5i.yaml",
        "--ckpt_path=old.ckpt",
        "--run=runs/y",
        "--trainer.max_epochs=2",
        "--trainer.max_steps=-1",
    )
    assert "classes" not in torch.load("runs/y/checkpoints/last.ckpt", weights_only=True)


def test_another_data_sets_name_of_a_class_is_the_same_class(command: Command, capsys: pytest.CaptureFixture) -> None:
    assert canonical_class("pottedplant") == canonical_class("potted plant")
    command("fit", "coco20i.yaml", "--data.fold=1", "--run=runs/x")
    same_network = ["--model.encoder=test_resnet", "--model.width=8", "--model.levels=[1,0.5]"]
    error = refused(command, capsys, "test", "pascal5i.yaml", "--data.fold=0", f"--ckpt_path={LAST}", *same_network)
    assert "aeroplane" in error
    assert "Coco20iDataModule" in error


@pytest.mark.parametrize("twin", ["cup", "Cup "])
def test_two_classes_of_one_name_are_refused(tmp_path: Path, twin: str) -> None:
    root = write_folder(tmp_path / "folder", binary=False)
    file = root / "classes.yaml"
    file.write_text(file.read_text().replace("drum", f"'{twin}'"))
    with pytest.raises(InputError, match="gives the classes 3 and 4 one name"):
        FolderDataModule(str(root), novel=["cup"]).setup("fit")


def test_names_that_no_terminal_should_see_are_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "folder", binary=False)
    (root / "classes.yaml").write_text('1: apple\n2: "\\e[31mboot"\n3: cup\n4: drum\n')
    with pytest.raises(InputError, match=r"names class 2 '\\x1b\[31mboot'"):
        FolderDataModule(str(root), novel=["cup"]).setup("fit")
    fss = write_fss(tmp_path / "fss")
    (fss / "class_03").rename(fss / "class\x1b[2J")
    with pytest.raises(InputError, match=r"'class\\x1b\[2J'"):
        Fss1000DataModule(str(fss)).setup("fit")


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_folders_test_photographs_are_never_trained_on(tmp_path: Path, binary: bool, protocol: str) -> None:
    root = write_folder(tmp_path / "folder", binary)
    data = FolderDataModule(
        str(root), novel=["cup", "drum"], image_size=65, train_episodes=60, protocol=Protocol(protocol), negative=0.3
    )
    data.setup("fit")
    used = {}
    for split, dataset in data.data.items():
        draws = [dataset.draw(i) for i in range(60)]
        used[split] = {dataset.source.names[i] for draw in draws for i in (draw.query, *draw.supports)}
    assert used["train"]
    assert used["val"]
    assert not used["train"] & used["val"]
    shows_novel = {data.images("val").names[i] for i in data.data["val"].queries}
    assert not shows_novel & used["train"]
    assert data.protocol.novel_in_training == "drop"


def test_a_folder_refuses_to_train_on_test_photographs(
    command: Command, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    error = refused(command, capsys, "fit", "folder.yaml", "--data.protocol.novel_in_training=background")
    assert "data.protocol.novel_in_training is background, which would train on images that are tested" in error
    command("fit", "folder.yaml", "--data.protocol.name=hsnet", "--run=runs/x")
    settings = yaml.safe_load(Path("runs/x/config.yaml").read_text())["data"]["init_args"]
    assert settings["protocol"]["novel_in_training"] == "drop"
    command("test", "folder.yaml", "--data.protocol.name=hsnet", f"--ckpt_path={LAST}", "--run=runs/t")
    assert json.loads(Path("runs/t/results.json").read_text())["protocol"]["novel_in_training"] == "drop"
    root = write_folder(tmp_path / "folder", binary=False)
    data = FolderDataModule(str(root), novel=["apple", "cup"], image_size=65, shots=9)
    with pytest.raises(InputError, match=r"besides the \d+ that show a novel class"):
        data.setup("fit")


def test_lists_that_share_photographs_are_told_of(voc: Path) -> None:
    data = Pascal5iDataModule(str(voc), image_size=65, min_class_area=50, train_list="val")
    with pytest.warns(UserWarning, match=r"image\(s\) are used for training and for the test, e.g. "):
        data.setup("fit")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        Pascal5iDataModule(str(voc), image_size=65, min_class_area=50).setup("fit")
    assert not [warning for warning in told if "tested on" in str(warning.message)]


@pytest.mark.parametrize("config", ["pascal5i.yaml", "folder.yaml", "fss1000.yaml", "demo/qgnet.yaml"])
def test_a_training_without_a_fold_takes_all_classes_and_leaves_none_to_test(
    command: Command, capsys: pytest.CaptureFixture, config: str, tmp_path: Path
) -> None:
    root = [f"--data.root={write_fss(tmp_path / 'fss')}"] if config == "fss1000.yaml" else []
    command("fit", config, "--data.fold=null", "--run=runs/x", *root)
    trained = torch.load(LAST, weights_only=True)["classes"]
    if config == "pascal5i.yaml":
        assert len(trained["base"]) == len(Pascal5iDataModule("").class_names)
    assert trained["novel"] == []
    assert "all classes" in capsys.readouterr().out
    assert not Path("runs/x/checkpoints/best.ckpt").exists()
    for subcommand in ("test", "validate", "predict"):
        error = refused(command, capsys, subcommand, config, "--data.fold=null", f"--ckpt_path={LAST}", *root)
        assert "data.fold is null: all classes are used for training, and none is left to test." in error
    novel = ["--data.novel=[boot]"] if config == "folder.yaml" else []
    if config != "fss1000.yaml":  # whose list of novel classes was not trained on
        error = refused(command, capsys, "test", config, "--data.fold=0", *novel, f"--ckpt_path={LAST}", *root)
        assert "this checkpoint was trained on" in error


def test_lightnings_own_trainer_trains_on_all_classes_too(tmp_path: Path) -> None:
    small = {"image_size": 65, "min_class_area": 50, "train_episodes": 4, "batch_size": 2, "num_workers": 0}
    data = EpisodeDataModule(Synthetic(scenes=400), fold=None, **small)
    task = FewShotSegmentation("test_resnet", "random", self_correspondence=False, width=8, levels=[1])
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = pl.Trainer(max_epochs=1, default_root_dir=tmp_path, **quiet)
    trainer.fit(task, datamodule=data)
    assert trainer.global_step == 2
