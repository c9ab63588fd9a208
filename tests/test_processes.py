"""Several processes on the CPU (gloo) do what one does with the whole batch."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import two_processes
import yaml
from conftest import CONFIGS, EPISODIC, TINY_PRETRAINING, TINY_SCENES, TINY_TRAINER, start, succeed, train_losses

from qgnet.cli import main


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


@pytest.fixture
def trained(workdir: Path) -> str:
    main(["fit", *EPISODIC, "--run=runs/trained"])
    return "--ckpt_path=runs/trained/checkpoints/last.ckpt"


@pytest.mark.parametrize("episodes", [7, 8])
def test_two_processes_score_exactly_as_one(trained: str, episodes: int) -> None:
    test = ["test", *EPISODIC, trained, "--trainer.limit_test_batches=1.0", f"--data.episodes={episodes}"]
    two = start(*test, "--trainer.devices=2", "--trainer.strategy=ddp", "--data.num_workers=2", "--run=runs/two")
    for batch_size, workers in ((1, 2), (8, 0)):
        main([*test, f"--data.batch_size={batch_size}", f"--data.num_workers={workers}", f"--run=runs/{batch_size}"])
    succeed(two)
    results = {name: json.loads(Path(f"runs/{name}/results.json").read_text()) for name in ("1", "8", "two")}
    assert results["two"]["scores"] == results["1"]["scores"] == results["8"]["scores"]
    assert results["two"]["episodes"] == episodes
    assert Path("runs/two/worst_and_best.png").exists()


def test_two_processes_train_as_one_with_the_doubled_batch(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without dropout, whose draws are each process's own, and whatever ``ddp`` does by default."""
    fit = ["fit", *EPISODIC, "--data.train_episodes=16", "--trainer.limit_train_batches=4"]
    fit += ["--trainer.log_every_n_steps=1"]
    script = Path("without_dropout.py")
    script.write_text(
        "import sys, torch\n"
        "torch.nn.Dropout2d.forward = lambda self, x: x\n"
        "from qgnet.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    command = [sys.executable, str(script), *fit, "--trainer.devices=2", "--trainer.strategy=ddp", "--run=runs/two"]
    two = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)
    monkeypatch.setattr(torch.nn.Dropout2d, "forward", lambda self, x: x)
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


def test_a_killed_training_goes_on_as_if_nothing_had_happened(workdir: Path) -> None:
    every_step = "--trainer.log_every_n_steps=1"
    fit = ["fit", *EPISODIC, every_step, "--trainer.max_epochs=40", "--trainer.limit_val_batches=0"]
    unbroken, killed = (start(*fit, f"--run=runs/{run}") for run in ("unbroken", "killed"))
    last = Path("runs/killed/checkpoints/last.ckpt")
    while not last.exists():
        assert killed.poll() is None, killed.communicate()[1][-3000:]
        time.sleep(0.05)
    time.sleep(0.2)
    killed.kill()
    killed.communicate()
    steps = torch.load(last, weights_only=True)["global_step"]
    assert 0 < steps < 80
    succeed(start(*fit, "--run=runs/killed", "--ckpt_path=last"))
    succeed(unbroken)
    losses = train_losses("runs/unbroken")
    assert len(losses) == 80
    assert train_losses("runs/killed") == losses[steps:]
    states = [torch.load(f"runs/{run}/checkpoints/last.ckpt", weights_only=True) for run in ("unbroken", "killed")]
    for key, value in states[0]["state_dict"].items():
        assert torch.equal(states[1]["state_dict"][key], value), key


def children(process: subprocess.Popen) -> list[int]:
    """Process numbers of those it started."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be buried does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc")
@pytest.mark.parametrize("dying", ["first", "second"])
def test_one_process_that_dies_ends_the_other_with_a_message(workdir: Path, dying: str) -> None:
    endless = ["--trainer.max_epochs=100000", "--trainer.limit_val_batches=0"]
    first = start("fit", *EPISODIC, *endless, "--trainer.devices=2", "--trainer.strategy=ddp", "--run=runs/x")
    last = Path("runs/x/checkpoints/last.ckpt")
    while not last.exists():
        assert first.poll() is None, first.communicate()[1][-3000:]
        time.sleep(0.05)
    (second,) = children(first)
    os.kill(first.pid if dying == "first" else second, signal.SIGKILL)
    _, error = first.communicate(timeout=60)  # until both have closed it
    assert "Another process of this run has ended" in error
    assert "go on with --ckpt_path last" in error
    assert first.returncode == (-signal.SIGKILL if dying == "first" else 2)
    assert not alive(second)
    torch.load(last, weights_only=True)


def test_a_port_that_is_taken_is_named_and_nobody_waits(workdir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        fit = start("fit", *EPISODIC, "--trainer.devices=2", "--trainer.strategy=ddp", MASTER_PORT=port)
        _, error = fit.communicate(timeout=100)
    assert fit.returncode == 2
    assert port in error
    assert "MASTER_PORT=29511" in error
