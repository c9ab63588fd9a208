"""Mixed precision trains as float32 does."""

import pytest
import torch
from conftest import Command, train_losses


@pytest.mark.parametrize("config", ["demo/qgnet.yaml", "demo/pretrain.yaml"])
def test_bf16_trains_like_float32(command: Command, config: str) -> None:
    for precision in ("32-true", "bf16-mixed"):
        command(
            "fit",
            config,
            f"--trainer.precision={precision}",
            f"--run=runs/{precision}",
            "--trainer.log_every_n_steps=1",
        )
    found, expected = ([float(x) for x in train_losses(f"runs/{run}")] for run in ("bf16-mixed", "32-true"))
    assert found != expected
    assert found == pytest.approx(expected, rel=0.02)
    weights = torch.load("runs/bf16-mixed/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert {value.dtype for value in weights.values() if value.is_floating_point()} == {torch.float32}
