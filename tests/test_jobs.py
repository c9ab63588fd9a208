"""Several processes by the commands of a machine room: torchrun between two addresses, SLURM's start, signal and
requeueing, processes that die and a port that is taken.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import EPISODIC, LIGHTNING, start, succeed, train_losses

TORCHRUN = str(Path(LIGHTNING).with_name("torchrun"))
ENDED = "Another process of this run has ended"
LAST = Path("runs/x/checkpoints/last.ckpt")
FIT = ["fit", *EPISODIC, "--trainer.strategy=ddp", "--trainer.max_epochs=2", "--data.train_episodes=160"]
FIT += ["--trainer.limit_train_batches=40", "--trainer.limit_val_batches=0", "--trainer.log_every_n_steps=1"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes of one machine train in one go."""
    run = tmp_path_factory.mktemp("unbroken") / "run"
    succeed(start(*FIT, "--trainer.devices=2", f"--run={run}"))
    return run


def same_training(run: Path, expected: Path, steps: int = 0) -> None:
    """The very same losses after so many steps, and the very same weights in the end."""
    assert train_losses(run) == train_losses(expected)[steps:]
    weights, others = (
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for folder in (run, expected)
    )
    for key, value in others.items():
        assert torch.equal(weights[key], value), key


@pytest.fixture
def two_hosts() -> Iterator[list[list[str]]]:
    """Two network namespaces, joined by a cable: what to put before a command to run it in one."""
    names = [f"qgnet{os.getpid()}{end}" for end in "ab"]
    cables = [f"q{os.getpid() % 100000}{end}" for end in "ab"]
    try:
        for command in (
            *(f"netns add {name}" for name in names),
            f"link add {cables[0]} type veth peer name {cables[1]}",
            *(f"link set {cable} netns {name}" for cable, name in zip(cables, names, strict=True)),
            *(f"-n {name} addr add 10.77.0.{i + 1}/24 dev {cables[i]}" for i, name in enumerate(names)),
            *(f"-n {name} link set {dev} up" for i, name in enumerate(names) for dev in ("lo", cables[i])),
        ):
            subprocess.run(["ip", *command.split()], check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    yield [
        ["ip", "netns", "exec", name, "env", f"GLOO_SOCKET_IFNAME={cable}", "OMP_NUM_THREADS=1"]
        for name, cable in zip(names, cables, strict=True)
    ]
    for name in names:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def test_two_hosts_by_torchrun_train_as_two_processes_of_one(
    workdir: Path, two_hosts: list[list[str]], unbroken: Path
) -> None:
    meet = ["--nnodes=2", "--nproc_per_node=1", "--master_addr=10.77.0.1", "--master_port=29500"]
    trainer = ["--trainer.num_nodes=2", "--trainer.devices=1", "--run=runs/nodes"]
    nodes = [
        subprocess.Popen(
            [*host, TORCHRUN, *meet, f"--node_rank={rank}", "--", LIGHTNING, *FIT, *trainer],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, host in enumerate(two_hosts)
    ]
    for node in nodes:
        succeed(node)
    same_training(Path("runs/nodes"), unbroken)


@pytest.fixture
def slurm(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a job: ``requeued.txt`` appears in it when ``scontrol`` is called."""
    scontrol = workdir / "bin/scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(
        f'#!/bin/sh\necho "$@" > {workdir}/requeued.part\nmv {workdir}/requeued.part {workdir}/requeued.txt\n'
    )
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
    return workdir


def srun(*arguments: str) -> list[subprocess.Popen]:
    """Both tasks of a job on one node, in the environment that SLURM gives them."""
    job = {"JOB_ID": "4242", "JOB_NAME": "qgnet", "NTASKS": "2", "NTASKS_PER_NODE": "2", "NNODES": "1", "NODEID": "0"}
    tasks = []
    for rank in ("0", "1"):
        environment = job | {"PROCID": rank, "LOCALID": rank}
        tasks.append(start(*arguments, **{f"SLURM_{key}": value for key, value in environment.items()}))
    return tasks


def test_slurms_signal_saves_in_the_middle_of_an_epoch_and_requeues(slurm: Path, unbroken: Path) -> None:
    """And a task that then dies ends the other."""
    fit = [*FIT, "--trainer.devices=2", "--run=runs/job"]
    job = srun(*fit)
    while not Path("runs/job/checkpoints/last.ckpt").exists():
        assert [task.poll() for task in job] == [None, None], job[0].communicate()[1][-3000:]
        time.sleep(0.05)
    for task in job:
        task.send_signal(signal.SIGUSR1)
    for _ in range(600):
        if Path("requeued.txt").exists():
            break
        time.sleep(0.05)
    assert Path("requeued.txt").read_text() == "requeue 4242\n"
    job[1].kill()
    _, error = job[0].communicate(timeout=60)
    assert job[0].returncode == 2
    assert ENDED in error
    assert "go on with --ckpt_path last" in error
    saved = torch.load("runs/job/hpc_ckpt_1.ckpt", weights_only=True)
    assert 40 < saved["global_step"] < 80
    for task in srun(*fit, "--ckpt_path=last"):
        succeed(task)
    assert not list(Path("runs/job").glob("hpc_ckpt_*"))  # superseded
    same_training(Path("runs/job"), unbroken, saved["global_step"])


def children(process: subprocess.Popen) -> list[int]:
    """Process numbers of those it started."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be buried does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_for_checkpoint(first: subprocess.Popen) -> int:
    """Until the run has saved; the process number of the second."""
    while not LAST.exists():
        assert first.poll() is None, first.communicate()[1][-3000:]
        time.sleep(0.05)
    (second,) = children(first)
    return second


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc")
def test_a_training_whose_first_process_is_killed_goes_on_as_if_nothing_had_happened(
    workdir: Path, unbroken: Path
) -> None:
    fit = [*FIT, "--trainer.devices=2", "--run=runs/x"]
    first = start(*fit)
    second = wait_for_checkpoint(first)
    time.sleep(0.2)
    first.kill()
    _, error = first.communicate(timeout=60)  # until both have closed it
    assert ENDED in error
    assert not alive(second)
    steps = torch.load(LAST, weights_only=True)["global_step"]
    assert 0 < steps < 80
    succeed(start(*fit, "--ckpt_path=last"))
    same_training(Path("runs/x"), unbroken, steps)


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
