"""Several processes on the CPU (gloo) do what one does with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import torch
import two_processes
from conftest import CONFIGS, TINY_PRETRAINING, TINY_SCENES, TINY_TRAINER

from qgnet.cli import main

LIGHTNING = str(Path(sys.executable).parent / "lightning")


def test_batch_norm_over_two_processes_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    script = Path(two_processes.__file__)
    ranks = [
        subprocess.Popen([sys.executable, script, str(rank), str(tmp_path / "store"), str(tmp_path)]) for rank in (0, 1)
    ]
    assert [rank.wait(timeout=100) for rank in ranks] == [0, 0]
    expected = two_processes.train(two_processes.network(), slice(None))
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert torch.allclose(found.pop("output"), expected["output"][rank::2], atol=1e-5)
        assert {key.removeprefix("module.") for key in found} == set(expected) - {"output"}
        for key, value in found.items():
            assert torch.allclose(value, expected[key.removeprefix("module.")], atol=1e-5), key


def arguments(folder: str, devices: int, batch: int) -> list[str]:
    """A short training of stage 1 whose queue is written over once and a half."""
    return [
        "fit",
        f"--config={CONFIGS / 'demo/pretrain.yaml'}",
        *TINY_TRAINER,
        *TINY_PRETRAINING,
        *TINY_SCENES,
        "--trainer.max_steps=-1",
        "--trainer.limit_train_batches=4",
        "--model.queue_size=20",
        f"--trainer.devices={devices}",
        f"--data.batch_size={batch}",
        f"--run={folder}",
    ]


def test_two_processes_pretrain_as_one_with_the_doubled_batch(workdir: Path) -> None:
    command = [LIGHTNING, *arguments("runs/two", 2, 2), "--trainer.strategy=ddp"]
    two = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)
    main(arguments("runs/one", 1, 4))
    _, error = two.communicate(timeout=200)
    assert two.returncode == 0, error[-3000:]
    found, expected = (
        torch.load(f"runs/{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"] for name in ("two", "one")
    )
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert torch.allclose(found[key].float(), value.float(), atol=1e-3), key
    assert int(found["net.queue_position"]) == 4 * 8 % 20
    assert len(found["net.queue"].unique(dim=0)) == 20
