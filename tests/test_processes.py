"""Several processes on the CPU (gloo) do what one does with the whole batch."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from conftest import CONFIGS, EPISODIC, TINY_PRETRAINING, TINY_SCENES, TINY_TRAINER, start, succeed, train_losses

from qgnet.cli import main


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
        "--trainer.log_every_n_steps=1",
        "--model.queue_size=20",
        f"--trainer.devices={devices}",
        f"--data.batch_size={batch}",
        f"--run={folder}",
    ]


def same_losses(found: str, expected: str) -> None:
    """The logged losses of all four steps, those of two processes being means over both."""
    losses = [[float(loss) for loss in train_losses(run)] for run in (found, expected)]
    assert len(losses[0]) == 4
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_two_processes_pretrain_as_one_with_the_doubled_batch(workdir: Path) -> None:
    two = start(*arguments("runs/two", 2, 2), "--trainer.strategy=ddp")
    main(arguments("runs/one", 1, 4))
    succeed(two)
    same_losses("runs/two", "runs/one")
    found, expected = (
        torch.load(f"runs/{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"] for name in ("two", "one")
    )
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert torch.allclose(found[key].float(), value.float(), atol=1e-3), key
    assert int(found["net.queue_position"]) == 4 * 8 % 20
    assert len(found["net.queue"].unique(dim=0)) == 20


def test_two_processes_score_exactly_as_one(workdir: Path) -> None:
    """An odd number of episodes, of which one process is given one twice."""
    main(["fit", *EPISODIC, "--run=runs/trained"])
    test = ["test", *EPISODIC, "--ckpt_path=runs/trained/checkpoints/last.ckpt"]
    test += ["--trainer.limit_test_batches=1.0", "--data.episodes=7"]
    two = start(*test, "--trainer.devices=2", "--trainer.strategy=ddp", "--data.num_workers=2", "--run=runs/two")
    for batch_size, workers in ((1, 2), (8, 0)):
        main([*test, f"--data.batch_size={batch_size}", f"--data.num_workers={workers}", f"--run=runs/{batch_size}"])
    succeed(two)
    results = {name: json.loads(Path(f"runs/{name}/results.json").read_text()) for name in ("1", "8", "two")}
    assert results["two"]["scores"] == results["1"]["scores"] == results["8"]["scores"]
    assert results["two"]["episodes"] == 7
    assert Path("runs/two/worst_and_best.png").exists()


def test_two_processes_train_as_one_with_the_doubled_batch(workdir: Path) -> None:
    """Dropout included, and whatever ``ddp`` does by default."""
    fit = ["fit", *EPISODIC, "--data.train_episodes=16", "--trainer.limit_train_batches=4", "--data.shots=2"]
    fit += ["--trainer.log_every_n_steps=1"]
    two = start(*fit, "--trainer.devices=2", "--trainer.strategy=ddp", "--run=runs/two")
    main([*fit, "--data.batch_size=4", "--run=runs/one"])
    succeed(two)
    same_losses("runs/two", "runs/one")
    one, both = (torch.load(f"runs/{run}/checkpoints/last.ckpt", weights_only=True) for run in ("one", "two"))
    assert one["global_step"] == both["global_step"] == 4
    start_of = torch.load("runs/one/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    for key, value in start_of.items():
        assert torch.allclose(both["state_dict"][key].float(), value.float(), atol=1e-3), key
    parameters = both["optimizer_states"][0]["param_groups"][0]["params"]
    config = yaml.safe_load(Path("runs/two/config.yaml").read_text())
    assert config["trainer"]["strategy"] == "ddp"  # not find_unused_parameters
    frozen = [key for key in start_of if key.startswith(("net.encoder.", "net.prior_encoder."))]
    assert 0 < len(parameters) <= len(start_of) - len(frozen)
