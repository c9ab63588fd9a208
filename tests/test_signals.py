"""A training that is ended from outside says so by its exit code, so that ``fit && test`` does not go on."""

import signal
import time
from pathlib import Path

import pytest
from conftest import EPISODIC, start

LAST = Path("runs/x/checkpoints/last.ckpt")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_training_ended_by_a_signal(workdir: Path, number: signal.Signals, code: int) -> None:
    fit = start("fit", *EPISODIC, "--run=runs/x", "--trainer.max_epochs=1000", "--data.train_episodes=16")
    while not LAST.exists():
        assert fit.poll() is None, fit.communicate()[1][-3000:]
        time.sleep(0.05)
    fit.send_signal(number)
    _, error = fit.communicate(timeout=200)
    assert fit.returncode == code
    assert "a training goes on with --ckpt_path last" in error
    assert "Traceback" not in error
