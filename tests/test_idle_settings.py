"""Settings that do nothing beside others are told of by name, or refused where they are certainly meant otherwise."""

from pathlib import Path

import pytest
import torch
from conftest import Command

from qgnet.inference.models import checkpoint_model
from qgnet.networks.encoders import create_encoder
from qgnet.weights.store import save_prior_bank

BANK = "--model.prior_bank=bank.pt"
FIT = ["fit", "demo/qgnet.yaml"]
WITHOUT_SELF = "--config=lightning_configs/ablations/without_self.yaml"
NOTHING = "so this has no effect: "


def told(recwarn: pytest.WarningsRecorder) -> list[str]:
    """Which settings do nothing, and why."""
    return [str(one.message) for one in recwarn if NOTHING in str(one.message)]


def bank() -> None:
    save_prior_bank(Path("bank.pt"), torch.randn(6, create_encoder("test_resnet", 3).high_channels), {})


@pytest.mark.parametrize(
    ("config", "settings", "expected"),
    [
        (
            "demo/qgnet.yaml",
            [WITHOUT_SELF],
            f"model.self_correspondence is false, {NOTHING}model.prior_encoder (test_resnet), "
            "model.prior_weights (random).",
        ),
        ("demo/qgnet.yaml", ["--model.reuse=false", "--model.reuse_mb=5"], f"false, {NOTHING}model.reuse_mb (5)."),
        (
            "demo/qgnet.yaml",
            ["--model.bank_size=6", BANK],
            f"model.bank_size is 6, {NOTHING}model.prior_weights (random).",
        ),
        (
            "demo/pretrain.yaml",
            ["--model.patch_queue=true", "--model.local_local=0"],
            f"model.local_local is 0, {NOTHING}model.patch_queue (True).",
        ),
    ],
    ids=["without_self.yaml", "reuse", "bank", "patch queue"],
)
def test_a_training_tells_what_does_nothing(
    command: Command, recwarn: pytest.WarningsRecorder, config: str, settings: list[str], expected: str
) -> None:
    bank()
    command("fit", config, "--run=runs/x", *settings)
    (message,) = told(recwarn)
    assert message.endswith(expected)


def test_a_usual_training_tells_nothing(command: Command, recwarn: pytest.WarningsRecorder) -> None:
    command("fit", "demo/qgnet.yaml")
    command("fit", "demo/pretrain.yaml")
    assert not told(recwarn)


def test_a_bank_without_its_size_is_refused_but_not_of_a_checkpoint(
    command: Command, capsys: pytest.CaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    bank()
    with pytest.raises(SystemExit, match="2"):
        command(*FIT, BANK, "--run=runs/refused")
    assert "`model.prior_bank` is bank.pt, but `model.bank_size` is null" in capsys.readouterr().err
    command(*FIT, "--run=runs/x")
    last = Path("runs/x/checkpoints/last.ckpt")
    checkpoint = torch.load(last, weights_only=True)
    checkpoint["hyper_parameters"]["prior_bank"] = "bank.pt"  # as of a training when this was taken
    torch.save(checkpoint, last)
    recwarn.clear()
    command("test", "demo/qgnet.yaml", BANK, f"--ckpt_path={last}", "--run=runs/t")
    command(*FIT, BANK, "--trainer.max_epochs=2", "--trainer.max_steps=4", f"--ckpt_path={last}", "--run=runs/x")
    assert told(recwarn) == [f"model.bank_size is null, {NOTHING}model.prior_bank (bank.pt)."] * 2
    checkpoint_model(last, None)


def test_a_margin_named_twice(command: Command, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="2"):
        command(*FIT, "--model.score_maps=[ridge, ridge]")
    assert "score_maps names 'ridge' twice" in capsys.readouterr().err


def test_a_training_that_ends_before_its_first_validation(command: Command, recwarn: pytest.WarningsRecorder) -> None:
    command(*FIT, "--trainer.check_val_every_n_epoch=3", "--trainer.max_epochs=2")
    assert any("check_val_every_n_epoch is 3, but the training ends after 2" in str(one.message) for one in recwarn)
