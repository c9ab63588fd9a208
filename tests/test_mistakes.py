"""What a user may do wrong beside the settings: files of another kind, and what callbacks and loggers say."""

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import EPISODIC, Command
from fake_data import write_folder

from datamodules import SyntheticDataModule, SyntheticViewsDataModule
from datamodules.base import BaseDataModule
from qgnet import start
from qgnet.cli import main
from qgnet.commands import main as qgnet
from qgnet.common.boundary import boundary
from qgnet.common.errors import InputError
from qgnet.config.command_line import CommandLine
from qgnet.tasks.segmentation import FewShotSegmentation

Refused = Callable[..., str]


class Code:
    """What an attacker would put into a checkpoint."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("it_ran",)


@pytest.fixture
def refused(workdir: Path, capsys: pytest.CaptureFixture) -> Refused:
    """The message that a command ends with, and nothing else: no traceback, exit code 2."""

    def run(subcommand: str, *extra: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main([subcommand, *EPISODIC, *extra])
        assert stop.value.code == 2
        return capsys.readouterr().err.rsplit("error: ", 1)[1]

    return run


def test_files_that_are_no_checkpoints(command: Command, refused: Refused) -> None:
    command("fit", "demo/pretrain.yaml", "--run=runs/one")
    whole = Path("runs/one/checkpoints/last.ckpt").read_bytes()
    torch.save({"state_dict": {}, "more": Code()}, "payload.ckpt")
    Path("pickle.ckpt").write_bytes(pickle.dumps(Code()))
    Path("empty.ckpt").touch()
    Path("cut.ckpt").write_bytes(whole[: len(whole) // 2])
    torch.save([1, 2], "list.ckpt")
    torch.save({"weight": torch.zeros(1)}, "plain.ckpt")
    for kind in ("payload", "pickle", "empty", "cut"):
        message = refused("test", f"--ckpt_path={kind}.ckpt")
        assert f"{kind}.ckpt cannot be read as a checkpoint of tensors" in message
        assert "weights_only" not in message  # torch suggests to switch it off
    assert not Path("it_ran").exists()
    assert "holds a list" in refused("test", "--ckpt_path=list.ckpt")
    assert "is no checkpoint of a training" in refused("test", "--ckpt_path=plain.ckpt")
    for subcommand in ("fit", "test"):
        message = refused(subcommand, "--ckpt_path=runs/one/prior_extractor.ckpt")
        assert "is a prior extractor. Give it as --model.prior_weights" in message
    Path("broken.safetensors").write_bytes(b"\x05\0\0\0\0\0\0\0hello")
    assert "broken.safetensors cannot be read" in refused("fit", "--model.prior_weights=broken.safetensors")


def test_checkpoints_of_the_other_stage_and_without_optimiser(
    command: Command, refused: Refused, capsys: pytest.CaptureFixture
) -> None:
    command("fit", "demo/pretrain.yaml", "--run=runs/one")
    command("fit", "demo/qgnet.yaml", "--run=runs/two", "--checkpoint.save_weights_only=true")
    for subcommand in ("fit", "test"):
        message = refused(subcommand, "--ckpt_path=runs/one/checkpoints/last.ckpt")
        assert "checkpoint is of stage 1, the prior extractor's training, but this is stage 2" in message
        with pytest.raises(SystemExit, match="2"):
            command(subcommand, "demo/pretrain.yaml", "--ckpt_path=runs/two/checkpoints/last.ckpt")
        assert "checkpoint is of stage 2, but this is stage 1" in capsys.readouterr().err
    assert "weights alone (save_weights_only)" in refused("fit", "--ckpt_path=runs/two/checkpoints/best.ckpt")


def test_text_files_of_another_kind(refused: Refused) -> None:
    Path("latin.yaml").write_bytes("# größe\ntrainer:\n  max_epochs: 1\n".encode("latin-1"))
    assert "latin.yaml is not a text file in UTF-8" in refused("fit", "--config=latin.yaml")
    assert "latin.yaml is not a text file in UTF-8" in refused("fit", "--config", "latin.yaml")
    Path("twice.yaml").write_text("trainer:\n  max_epochs: 1\n  max_time: null\n  max_epochs: 2\n")
    assert "'max_epochs' stands here and in line 2" in refused("fit", "--config=twice.yaml")
    Path("cut.yaml").write_text("trainer: [1\n")
    assert "cut.yaml cannot be read as YAML" in refused("fit", "--config=cut.yaml")
    Path("binary.jsonl").write_bytes(b"\x80\xff\xfe")
    assert "binary.jsonl is not a text file in UTF-8" in refused("fit", "--data.episode_file=binary.jsonl")


@pytest.mark.parametrize("content", ["data: &x\n  init_args: *x\n", "trainer: &x\n  callbacks: [*x]\n"])
def test_a_yaml_that_contains_itself(refused: Refused, content: str) -> None:
    Path("loop.yaml").write_text(content)
    Path("loop.conf").write_text(content)
    for option, file in (("config", "loop.yaml"), ("config", "loop.conf"), ("trainer.logger", "loop.yaml")):
        assert f"{file} cannot be read as YAML: it contains itself" in refused("fit", f"--{option}={file}")


def test_a_value_that_contains_itself(workdir: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["fit", *EPISODIC, "--model.levels=&a [*a]"])
    assert "val='&a [*a]'" in capsys.readouterr().err


def test_a_yaml_may_repeat_a_part_and_be_no_deeper_than_can_be_read(refused: Refused) -> None:
    Path("anchor.yaml").write_text("model:\n  init_args:\n    levels: &a [1, 0.5]\n    score_maps: *a\n")
    assert "score_maps" in refused("fit", "--config=anchor.yaml")
    Path("deep.yaml").write_text("trainer: " + "[" * 3000 + "]" * 3000)
    assert "deep.yaml cannot be read as YAML: it is nested too deeply" in refused("fit", "--config=deep.yaml")


def test_names_of_classes_given_twice(refused: Refused, data: dict[str, Path], tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "own" / folder).mkdir(parents=True)
    (tmp_path / "own/classes.yaml").write_text("1: cat\n2: dog\n1: cow\n")
    folder = ["--data=FolderDataModule", f"--data.root={tmp_path}/own"]
    assert "classes.yaml has the number 1 twice" in refused("fit", *folder)


def test_places_where_no_run_can_lie(refused: Refused) -> None:
    Path("file").touch()
    assert "--run is file, which is not a folder" in refused("fit", "--run=file")
    assert "file/x cannot be written to: Not a directory. Choose another with --run." in refused("fit", "--run=file/x")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=nothing"], "settings of this callback"),
        (["--trainer.callbacks=ModelCheckpoint", "--trainer.callbacks.save_top_k=-5"], "save_top_k=-5"),
        (["--trainer.logger=CometLogger"], "CometLogger cannot be made"),
        (["--checkpoint.every_n_epochs=-1"], "Correct the --checkpoint"),
    ],
)
def test_what_lightnings_callbacks_and_loggers_refuse(refused: Refused, settings: list[str], message: str) -> None:
    assert message in refused("fit", *settings)


def test_a_fault_of_a_callback_is_not_called_a_wrong_setting(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("qgnet.callbacks.throughput.Throughput.__init__", fails)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        main(["fit", *EPISODIC])


def test_ctrl_c_among_the_imports_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(start, "import_module", interrupted)
    with pytest.raises(SystemExit) as stop:
        start.lightning(["fit"])
    assert stop.value.code == 130
    assert capsys.readouterr().err.strip() == "Stopped. Nothing was written yet."


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), boundary(""):
        _ = 1 / 0
    with pytest.raises(FileNotFoundError), boundary(""):
        Path("nowhere").read_text()


def test_qgnets_commands_end_at_the_same_boundary(workdir: Path, capsys: pytest.CaptureFixture) -> None:
    Path("file").touch()
    with pytest.raises(SystemExit) as stop:
        qgnet(["episodes", "file/x.jsonl", *EPISODIC])
    assert stop.value.code == 2
    assert "error: file" in capsys.readouterr().err


def test_a_task_is_read_from_a_checkpoint_in_python(command: Command) -> None:
    command("fit", "demo/qgnet.yaml", "--run=runs/x")
    FewShotSegmentation.load_from_checkpoint("runs/x/checkpoints/last.ckpt", map_location="cpu")


def typed(*arguments: str) -> set[str]:
    """The settings of a command line's DataModule, each as a user types it."""
    data = CommandLine("fit", [*EPISODIC, *arguments]).config.data
    return {f"data.{name.replace('init_args.', '')}" for name in data.keys(branches=True)}


@pytest.mark.parametrize(
    ("data", "prefix"),
    [
        (["--data=FolderDataModule"], "data"),
        (["--data=EpisodeDataModule", "--data.dataset=LabelledFolder"], "data.dataset"),
    ],
)
def test_settings_in_messages_can_be_typed(refused: Refused, data: list[str], prefix: str, tmp_path: Path) -> None:
    data = [*data, f"--{prefix}.root={write_folder(tmp_path / 'own', binary=False)}"]
    settings = typed(*data)
    assert f"{prefix}.novel" in settings

    def named(*arguments: str) -> set[str]:
        found = set(re.findall(r"data(?:\.[a-z_]+)+", refused("fit", *data, *arguments)))
        assert found <= settings
        return found

    assert named(f"--{prefix}.novel=[fish]") == {f"{prefix}.novel"}
    assert named() == {f"{prefix}.novel"}  # no base classes
    assert named(f"--{prefix}.novel=[cup]", f"--{prefix}.mask_suffix=_m") == {f"{prefix}.mask_suffix"}
    assert named(f"--{prefix}.novel=[cup]", "--data.fold=1") == {"data.fold"}
    assert named(f"--{prefix}.novel=[cup]", "--data.min_class_area=9000") == {"data.min_class_area"}
    for path in list((tmp_path / "own/masks").glob("*.png")):
        path.rename(path.with_name(f"{path.stem}_m.png"))
    assert named(f"--{prefix}.novel=[cup]") == {f"{prefix}.mask_suffix"}


def test_settings_that_give_more_samples_can_be_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BaseDataModule, "ranks", 9)
    episodes = SyntheticDataModule(
        scenes=40, num_workers=0, image_size=65, min_class_area=50, episodes=2, train_episodes=3
    )
    views = SyntheticViewsDataModule(scenes=40, num_workers=0, batch_size=2, held_out=3)
    for data in (episodes, views):
        data.setup("fit")
    for loader, advice in {
        episodes.train_dataloader: "(--data.train_episodes)",
        episodes.test_dataloader: "(--data.episodes)",
        views.predict_dataloader: "(--data.held_out)",
    }.items():
        with pytest.raises(InputError, match=f"9 processes; each needs one. Give more {re.escape(advice)}, or"):
            loader()


def test_a_data_module_without_a_data_set_says_what_is_expected(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "without.py").write_text(
        "from datamodules import EpisodeDataModule\n\n\nclass Mine(EpisodeDataModule):\n"
        "    def __init__(self, name: str = 'x') -> None:\n        super().__init__(shots=1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("EpisodeDataModule", "without.Mine"):
        message = refused("fit", f"--data={name}")
        assert "data.dataset is None; expected a DatasetSpec, such as Pascal5i() or yours" in message
        assert "super().__init__(dataset, …)" in message
