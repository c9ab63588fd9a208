import pytest
import pytorch_lightning as pl
import torch
from conftest import Command
from pretend_gpu import pretend_gpu
from collections import Counter

ON_GPU = ["--trainer.accelerator=gpu", "--trainer.devices=1"]


@pytest.mark.parametrize("config", ["demo/qgnet.yaml", "demo/pretrain.yaml"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_fit(command: Command, config: str, precision: str, monkeypatch) -> None:
    with pretend_gpu() as gpu:
        command("fit", config, *ON_GPU, f"--trainer.precision={precision}", "--run=runs/a")
        for line, n in Counter(gpu.waits).most_common(60): print(n, *line)
