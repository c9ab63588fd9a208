"""Trainings that are killed, that lose a process or cannot start one."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import torch
from conftest import EPISODIC, start, succeed, train_losses

from qgnet.cli import main


def test_a_killed_training_goes_on_as_if_nothing_had_happened(workdir: Path) -> None:
    every_step = "--trainer.log_every_n_steps=1"
    fit = ["fit", *EPISODIC, every_step, "--trainer.max_epochs=40", "--trainer.limit_val_batches=0"]
    killed = start(*fit, "--run=runs/killed")
    last = Path("runs/killed/checkpoints/last.ckpt")
    while not last.exists():
        assert killed.poll() is None, killed.communicate()[1][-3000:]
        time.sleep(0.05)
    time.sleep(0.2)
    killed.kill()
    killed.communicate()
    steps = torch.load(last, weights_only=True)["global_step"]
    assert 0 < steps < 80
    resumed = start(*fit, "--run=runs/killed", "--ckpt_path=last")
    main([*fit, "--run=runs/unbroken"])
    succeed(resumed)
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
