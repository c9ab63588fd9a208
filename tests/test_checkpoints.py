import errno
from pathlib import Path

import pytest
import torch
from conftest import Command

from datamodules import InputError
from qgnet.checkpoints import AtomicCheckpointIO


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
    ],
)
def test_a_trainer_that_this_machine_cannot_have(
    command: Command, settings: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stop:
        command("fit", "demo/qgnet.yaml", *settings)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
