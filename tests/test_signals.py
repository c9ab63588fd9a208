"""A training that is ended from outside says so by its exit code, so that ``fit && test`` does not go on."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import EPISODIC

from qgnet.start import lightning
from qgnet.tasks.base import Task


@pytest.fixture
def handlers() -> Iterator[None]:
    """Lightning leaves Ctrl-C ignored behind it."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_training_ended_by_a_signal(
    workdir: Path,
    handlers: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    number: signal.Signals,
    code: int,
) -> None:
    def signalled(task: Task) -> None:
        if task.current_epoch == 1:
            signal.raise_signal(number)

    fit = ["fit", *EPISODIC, "--run=runs/x", "--trainer.max_epochs=3"]
    with monkeypatch.context() as patched:
        patched.setattr(Task, "on_train_epoch_start", signalled, raising=False)
        with pytest.raises(SystemExit) as stop:
            lightning(fit)
    assert stop.value.code == code
    error = capsys.readouterr().err
    assert "a training goes on with --ckpt_path last" in error
    assert "Traceback" not in error
    lightning([*fit, "--ckpt_path=last"])
