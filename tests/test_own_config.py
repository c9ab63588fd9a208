"""A checkpoint named alone is used with the configuration of its own run."""

import json
from pathlib import Path

import pytest
import torch
from conftest import Command

from qgnet.commands import main as qgnet
from qgnet.config.layers import value_of

LAST = Path("runs/x/checkpoints/last.ckpt")


def refusal(arguments: list[str], capsys: pytest.CaptureFixture) -> str:
    with pytest.raises(SystemExit) as stop:
        qgnet(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err.rsplit("error: ", 1)[1]


def test_a_checkpoint_alone_is_used_with_its_runs_configuration(
    command: Command, capsys: pytest.CaptureFixture
) -> None:
    command("fit", "demo/qgnet.yaml", "--run=runs/x", "--model.width=16")
    capsys.readouterr()
    qgnet(["test", "--ckpt_path", str(LAST)])
    assert "Settings: runs/x/config.yaml" in capsys.readouterr().out
    assert json.loads(Path("runs/x/test-fold0-1shot-seed321-last/results.json").read_text())["shots"] == 1
    qgnet(["test", f"--ckpt_path={LAST}", "--data.shots=2", "--run=runs/t"])
    assert json.loads(Path("runs/t/results.json").read_text())["shots"] == 2
    qgnet(["fit", "--ckpt_path=last", "--run=runs/x", "--trainer.max_steps=3", "--trainer.max_epochs=2"])
    assert torch.load(LAST, weights_only=True)["global_step"] == 3
    assert "a configuration tells" in refusal(["test", "--ckpt_path=last"], capsys)
    Path("runs/x/config.yaml").unlink()
    assert "there is no runs/x/config.yaml. Name the" in refusal(["test", f"--ckpt_path={LAST}"], capsys)


def test_the_value_of_an_option() -> None:
    assert value_of("--a", ["fit", "--a=1", "--ab", "3", "--a", "2"]) == "2"
    assert value_of("--a", ["fit", "--ab=1", "--b=--a"]) is None
    assert value_of("--a", ["fit", "--a"]) == ""
