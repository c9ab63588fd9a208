"""A log gets a few lines of how far a work is; a terminal has bars."""

import re
import sys
from pathlib import Path

import pytest
from conftest import Command
from pytorch_lightning.callbacks import TQDMProgressBar
from tqdm import tqdm

from qgnet.callbacks.log_progress import LogProgress, progress_bar
from qgnet.common.progress import Lines, progress

ROOT = Path(__file__).parent.parent
SHOWN = "--trainer.enable_progress_bar=true"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds since the beginning, to be moved on."""
    now = [0.0]
    monkeypatch.setattr("qgnet.common.progress.time.monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(("seconds", "lines"), [(0.001, 1), (0.05, 10), (3.0, 10)])
def test_a_work_has_a_line_per_tenth(
    clock: list[float], capsys: pytest.CaptureFixture, seconds: float, lines: int
) -> None:
    """And none but the last if it takes a moment only."""
    for _ in progress(range(1000), "Reading", unit="mask"):
        clock[0] += seconds
    found = capsys.readouterr().err.splitlines()
    assert len(found) == lines
    assert found[-1].startswith("Reading: 100 % 1000/1000 [")
    assert "mask" in found[-1]


def test_a_work_whose_end_is_not_known_has_a_line_per_minute(clock: list[float], capsys: pytest.CaptureFixture) -> None:
    with progress(None, "voc", unit="B", unit_scale=True, leave=False) as got:
        for _ in range(600):
            clock[0] += 1.0
            got.update(1000)
    found = capsys.readouterr().err.splitlines()
    assert len(found) == 10
    assert found[0] == "voc: 60.0k [01:00, 1.00kB/s]"


def test_a_terminal_has_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(progress([], "x"), Lines)
    assert isinstance(progress_bar(), LogProgress)
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    assert isinstance(progress([], "x"), tqdm)
    assert isinstance(progress_bar(), TQDMProgressBar)


def test_nothing_else_shows_a_bar() -> None:
    files = [path for folder in ("src", "datamodules", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    assert [path.name for path in files if re.search("^ *(from|import) tqdm", path.read_text(), re.M)] == [
        "progress.py"
    ]


def test_a_training_and_a_test_in_a_log(command: Command, capsys: pytest.CaptureFixture) -> None:
    steps = ["--trainer.max_steps=-1", "--trainer.limit_train_batches=12", "--data.train_episodes=24"]
    command("fit", "demo/qgnet.yaml", SHOWN, *steps, "--trainer.max_epochs=2", "--run=runs/x")
    output = capsys.readouterr()
    assert "\r" not in output.out + output.err
    lines = [line for line in output.err.splitlines() if line.startswith("Epoch")]
    assert len(lines) == 2 + 8  # tenths that are no epoch's end
    assert re.match(r"Epoch 0: step 3 of 24, 0:\d\d:\d\d, train/loss [\d.]+$", lines[0])
    assert re.match(r"Epoch 1: step 24 of 24, .*, train/loss [\d.]+, val/miou [\d.]+, val/fb_iou [\d.]+$", lines[-1])
    command("test", "demo/qgnet.yaml", SHOWN, "--ckpt_path=runs/x/checkpoints/last.ckpt")
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("Testing: 100 % 2/2 [")]
