import errno
import json
from pathlib import Path

import pytest
import torch
from conftest import Command, train_losses

from qgnet.cli import main
from qgnet.commands import main as qgnet
from qgnet.common.errors import InputError
from qgnet.weights.checkpoints import AtomicCheckpointIO


def test_a_checkpoint_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io, path = AtomicCheckpointIO(), tmp_path / "new/last.ckpt"
    io.save_checkpoint({"step": 1}, path)

    def full(content: object, file: object) -> None:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        with pytest.raises(InputError, match=r"last\.ckpt cannot be written: .*No space left.*before is whole"):
            io.save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
    io.save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 2}


def test_a_training_on_a_full_disk_ends_with_a_message(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    saved = torch.save

    def full_in_the_second_epoch(content: dict, file: object) -> None:
        if content["epoch"] == 1:
            raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")
        saved(content, file)

    monkeypatch.setattr(torch, "save", full_in_the_second_epoch)
    with pytest.raises(SystemExit) as stop:
        command("fit", "demo/qgnet.yaml", "--run=runs/x", "--trainer.max_epochs=3", "--trainer.max_steps=-1")
    assert stop.value.code == 2
    assert "Free space" in capsys.readouterr().err
    assert torch.load("runs/x/checkpoints/last.ckpt", weights_only=True)["epoch"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--trainer.accelerator=gpu"], "Correct the --trainer"),
        (["--trainer.strategy=nonsense"], "Correct the --trainer"),
        (["--trainer.devices=0"], "Correct the --trainer"),
        (["--trainer.precision=16-true"], "Take one of 32-true, bf16-mixed"),
        (["--trainer.precision=transformer-engine"], "Correct the --trainer"),
    ],
)
def test_a_trainer_that_this_machine_cannot_have(
    command: Command, settings: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stop:
        command("fit", "demo/qgnet.yaml", *settings)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("config", ["demo/qgnet.yaml", "demo/pretrain.yaml"])
def test_a_training_goes_on_in_the_middle_of_an_epoch_and_at_its_last_step(command: Command, config: str) -> None:
    fit = ["fit", config, "--trainer.max_steps=-1", "--trainer.max_epochs=2", "--trainer.limit_train_batches=4"]
    fit += ["--trainer.log_every_n_steps=1", "--trainer.limit_val_batches=0", "--data.num_workers=2"]
    fit += ["--data.train_episodes=8"] if "qgnet" in config else []
    often = ["--checkpoint.every_n_train_steps=1", "--checkpoint.save_top_k=-1", "--checkpoint.filename={step}"]
    command(*fit, *often, "--checkpoint.monitor=null", "--run=runs/unbroken")
    for step in (3, 4, 6):  # the fourth is an epoch's last
        command(*fit, f"--ckpt_path=runs/unbroken/checkpoints/step={step}.ckpt", f"--run=runs/from{step}")
        assert train_losses(f"runs/from{step}") == train_losses("runs/unbroken")[step:]


def test_a_checkpoint_and_its_config_from_before_the_rooms(workdir: Path) -> None:
    """``before_the_rooms/`` was written by commit 589031d, whose modules lay elsewhere."""
    old = Path(__file__).parent / "before_the_rooms"
    main(["test", f"--config={old / 'config.yaml'}", f"--ckpt_path={old / 'last.ckpt'}", "--run=runs/old"])
    then, now = (json.loads((folder / "results.json").read_text()) for folder in (old, Path("runs/old")))
    assert now["classes"] == then["classes"]
    for score in ("miou", "fb_iou"):
        assert now["scores"]["QGNet"][score] == pytest.approx(then["scores"]["QGNet"][score], abs=1e-3)


def test_the_episodes_of_a_runs_own_config(workdir: Path, capsys: pytest.CaptureFixture) -> None:
    config = Path(__file__).parent / "before_the_rooms/config.yaml"
    qgnet(["episodes", "episodes.jsonl", f"--config={config}"])
    assert "6 episodes in episodes.jsonl" in capsys.readouterr().out
    assert len(Path("episodes.jsonl").read_text().splitlines()) >= 6
