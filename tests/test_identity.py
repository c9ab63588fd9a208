"""A run's folder is its own, and says what the run is."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import EPISODIC, Command, start, succeed

from qgnet.commands import main as qgnet
from qgnet.common.errors import InputError
from qgnet.common.locks import hold
from qgnet.runs.folders import keep_metrics, training_of
from qgnet.runs.identity import LOCK, RUN_FILE, Identity, read_identity

FOLDER = Path("runs/qgnet/fold0-1shot-seed321")


def test_one_of_many_gets_a_folder(tmp_path: Path) -> None:
    runs = [Identity({"experiment": str(i)}) for i in range(16)]
    with ThreadPoolExecutor(16) as pool:
        claimed = list(pool.map(lambda run: run.claim(tmp_path / "x"), runs))
    assert sum(claimed) == 1
    found = read_identity(tmp_path / "x")
    assert found == runs[claimed.index(True)].facts


@pytest.mark.parametrize(
    "environment",
    [
        {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
        {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"},
        {"LOCAL_RANK": "1", "QGNET_JOB": "first"},
    ],
)
def test_all_processes_of_a_run_take_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    processes = [Identity({}) for _ in range(3)]
    assert [process.claim(tmp_path) for process in processes] == [True] * 3
    for name in environment:
        monkeypatch.delenv(name)
    assert not Identity({}).claim(tmp_path)


def test_a_run_that_was_killed_before_it_began_leaves_its_folder(tmp_path: Path) -> None:
    code = "import os, pathlib, sys; from qgnet.runs.identity import Identity; "
    code += "Identity({'experiment': 'killed'}).claim(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "x"], check=False).returncode == -signal.SIGKILL
    assert Identity({"experiment": "next"}).claim(tmp_path / "x")
    assert (read_identity(tmp_path / "x") or {})["experiment"] == "next"


def test_a_training_that_still_runs_is_not_gone_on_with(command: Command, capsys: pytest.CaptureFixture) -> None:
    command("fit", "demo/qgnet.yaml", "--run=runs/x")
    before = Path("runs/x/metrics.csv").read_text()
    running = Identity({})
    running.resume(Path("runs/x"))
    again = ["--run=runs/x", "--ckpt_path=last", "--trainer.max_steps=4", "--trainer.max_epochs=-1"]
    with pytest.raises(SystemExit, match="2"):
        command("fit", "demo/qgnet.yaml", *again)
    assert "runs/x is being trained by another process" in capsys.readouterr().err
    assert Path("runs/x/metrics.csv").read_text() == before
    running.end()
    command("fit", "demo/qgnet.yaml", *again)


def test_a_folder_that_is_not_taken_is_not_locked(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    later = Identity({})
    assert not later.claim(tmp_path)
    Identity({}).resume(tmp_path)


def test_forked_processes_do_not_keep_a_lock(tmp_path: Path) -> None:
    """Loader processes outlive a killed training by seconds."""
    first = hold(tmp_path / "lock")
    assert first is not None
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, b"started")
        time.sleep(60)
    assert os.read(reading, 7) == b"started"
    assert hold(tmp_path / "lock") is None
    first.close()
    second = hold(tmp_path / "lock")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert second is not None


def test_two_runs_started_together_have_a_folder_each(workdir: Path) -> None:
    """Both begin before either has written its configuration."""
    for run in [start("fit", *EPISODIC) for _ in range(2)]:
        succeed(run)
    for folder in (FOLDER, FOLDER.with_name(f"{FOLDER.name}-2")):
        assert len((folder / "metrics.csv").read_text().splitlines()) == 2
        assert (folder / "checkpoints/last.ckpt").exists()


def test_a_folder_that_another_run_has_claimed(command: Command, capsys: pytest.CaptureFixture) -> None:
    others = [Identity({"experiment": "other"}) for _ in range(2)]
    for other, folder in zip(others, (FOLDER, Path("runs/x")), strict=True):
        assert other.claim(folder)
    with pytest.raises(SystemExit):
        command("fit", "demo/qgnet.yaml", "--run=runs/x")
    assert "already holds a run" in capsys.readouterr().err
    command("fit", "demo/qgnet.yaml")
    assert sorted(path.name for path in FOLDER.iterdir()) == [LOCK, RUN_FILE]
    assert (FOLDER.with_name(f"{FOLDER.name}-2") / "checkpoints/last.ckpt").exists()


def test_a_run_that_cannot_begin_leaves_its_folder_to_the_next(command: Command) -> None:
    for mistake in ("--data.fold=9", "--data.batch_size=0", "--data.root=nowhere"):
        with pytest.raises(SystemExit):
            command("fit", "pascal5i.yaml", "--run=runs/x", mistake)
        assert not Path("runs/x").exists()
    command("fit", "pascal5i.yaml", "--run=runs/x")
    known = {"experiment": "x", "seed": 321, "data_seed": 321, "shots": 1}
    assert training_of(Path("runs/x")) == known
    shutil.move("runs/x", "runs/fold9-moved")  # what a run is does not hang on its folder's name
    assert training_of(Path("runs/fold9-moved")) == known
    Path("runs/fold9-moved", RUN_FILE).unlink()  # a run of before there was such a file
    assert training_of(Path("runs/fold9-moved")) == known | {"experiment": "runs"}


def test_a_folders_name_that_looks_like_ours_is_an_experiment(command: Command, capsys: pytest.CaptureFixture) -> None:
    for name in ("fold0_lr3", "seed1-wide", "wide/test-fold0-1shot-seed321"):
        command("test", "demo/qgnet.yaml", f"--run=runs/{name}")
        assert json.loads(Path(f"runs/{name}/{RUN_FILE}").read_text())["subcommand"] == "test"
    capsys.readouterr()
    qgnet(["report", "runs"])
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines() if " none " in line] == ["fold0_lr3", "seed1-wide", "wide"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(InputError, match="is a file; a run needs a folder"):
        Identity({}).claim(tmp_path / "x")


def test_no_metrics_are_written_over(tmp_path: Path) -> None:
    for name in ("metrics.csv", "metrics-2.csv", "metrics-old.csv"):
        (tmp_path / name).write_text(name)
    keep_metrics(tmp_path)
    assert (tmp_path / "metrics-3.csv").read_text() == "metrics.csv"
    assert (tmp_path / "metrics-2.csv").read_text() == "metrics-2.csv"
