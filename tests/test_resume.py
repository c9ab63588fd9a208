"""A training that was cut off between two epochs, where ``last.ckpt`` is written, goes on as if nothing had been."""

import csv
from pathlib import Path

import pytest
import pytorch_lightning as pl
from conftest import CONFIGS, EPISODIC, TINY_PRETRAINING, TINY_SCENES, TINY_SEGMENTATION, Command, train_losses

from qgnet.callbacks.requeue import Requeue
from qgnet.cli import main
from qgnet.runs.identity import LOCK
from qgnet.tasks.base import Task

STAGES = {
    "demo/pretrain.yaml": [*TINY_PRETRAINING, *TINY_SCENES],
    "demo/qgnet.yaml": [*TINY_SEGMENTATION, *TINY_SCENES, "--data.train_episodes=6"],
}
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1"]
LENGTHS = {"epochs": (-1, 4), "steps": (12, 4)}


class CutOff(BaseException):
    """Like a signal: nothing is done any more."""


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(
    ("config", "workers"), [("demo/pretrain.yaml", 2), ("demo/qgnet.yaml", 0), ("demo/qgnet.yaml", 2)]
)
def test_the_losses_after_a_whole_epoch_are_those_of_an_unbroken_run(
    command: Command, monkeypatch: pytest.MonkeyPatch, config: str, length: str, workers: int
) -> None:
    steps, epochs = LENGTHS[length]
    run = ["fit", f"--config={CONFIGS / config}", *STAGES[config], *QUIET, f"--data.num_workers={workers}"]
    run += [f"--trainer.max_steps={steps}", f"--trainer.max_epochs={epochs}"]
    run += ["--trainer.limit_train_batches=3", "--trainer.limit_val_batches=0"]
    main([*run, "--run=runs/unbroken"])
    unbroken = train_losses("runs/unbroken")
    assert len(unbroken) == 12

    def cut_off(task: Task) -> None:
        if task.trainer.global_step == 6:
            raise CutOff

    with monkeypatch.context() as patched:
        patched.setattr(Task, "on_train_epoch_start", cut_off, raising=False)
        with pytest.raises(CutOff):
            main([*run, "--run=runs/x"])
    main([*run, "--run=runs/x", "--ckpt_path=last"])
    assert train_losses("runs/x") == unbroken[6:]


def test_a_training_goes_on_with_the_optimiser_it_began_with(command: Command, capsys: pytest.CaptureFixture) -> None:
    command("fit", "demo/qgnet.yaml", "--run=runs/x")
    again = ["fit", "demo/qgnet.yaml", "--ckpt_path=runs/x/checkpoints/last.ckpt", "--trainer.max_steps=3"]
    for setting, message in (("lr=0.5", "has lr 0.5, had"), ("weight_decay=0.7", "has weight_decay 0.7, had")):
        with pytest.raises(SystemExit) as stop:
            command(*again, f"--model.optimizer.{setting}", f"--run=runs/{setting}")
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
    command(*again, "--trainer.max_epochs=2", "--run=runs/z")


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("config", STAGES)
def test_a_validation_that_slurm_broke_off_is_repeated(
    command: Command, monkeypatch: pytest.MonkeyPatch, config: str, length: str
) -> None:
    steps, epochs = LENGTHS[length]
    run = ["fit", f"--config={CONFIGS / config}", *STAGES[config], *QUIET, "--trainer.num_sanity_val_steps=0"]
    run += [f"--trainer.max_steps={steps}", f"--trainer.max_epochs={epochs}"]
    run += ["--trainer.limit_train_batches=3", "--trainer.limit_val_batches=2"]
    main([*run, "--run=runs/unbroken"])

    def begun(callback: Requeue, trainer: pl.Trainer, task: Task) -> None:
        def save(signum: int, frame: None) -> None:
            trainer.save_checkpoint("runs/x/hpc_ckpt_1.ckpt")
            raise CutOff

        callback.signum, callback.save_and_requeue = 10, save

    def signalled(callback: Requeue, trainer: pl.Trainer, *_: object) -> None:
        callback.signalled = trainer.global_step == 6

    with monkeypatch.context() as patched:
        patched.setattr(Requeue, "on_train_start", begun)
        patched.setattr(Requeue, "on_validation_batch_start", signalled)
        with pytest.raises(CutOff):
            main([*run, "--run=runs/x"])
    main([*run, "--run=runs/x", "--ckpt_path=last"])
    assert train_losses("runs/x") == train_losses("runs/unbroken")[6:]
    assert len(validations("runs/x")) == 3
    assert validations("runs/x") == validations("runs/unbroken")[1:]


def validations(run: str) -> list[dict[str, str]]:
    """Scores of each validation that was written down."""
    with open(f"{run}/metrics.csv") as file:
        rows = [{name: value for name, value in row.items() if name.startswith("val/")} for row in csv.DictReader(file)]
    return [row for row in rows if any(row.values())]


REFUSED = {
    "another rate": ["--model.optimizer.init_args.lr=0.5"],
    "another schedule": ["--model.schedule=cosine"],
    "another network": ["--model.width=16"],
    "a shorter training": ["--trainer.max_epochs=1"],
    "no length": ["--trainer.max_epochs=-1", "--trainer.max_time=00:00:01:00"],
    "another precision": ["--trainer.precision=16-true"],
    "a late validation": ["--trainer.val_check_interval=7", "--trainer.limit_val_batches=1"],
    "no such machine": ["--trainer.accelerator=gpu"],
    "trained classes": ["--data.fold=1"],
    "another stage's data": ["--data=SyntheticViewsDataModule"],
    "no such episodes": ["--data.episode_file=none.jsonl"],
    "a dashboard": ["--config=lightning_configs/logging/wandb.yaml", "--model.optimizer.init_args.lr=0.5"],
}


def test_a_refused_training_leaves_its_folder_as_it_was(workdir: Path, capsys: pytest.CaptureFixture) -> None:
    run = ["fit", *EPISODIC, "--trainer.limit_val_batches=0", "--trainer.log_every_n_steps=1", "--run=runs/x"]
    run += ["--data.scenes=80", "--data.episodes=2"]
    main([*run, "--trainer.max_epochs=3"])
    before = content("runs/x")
    assert {"config.yaml", "metrics.csv", "hparams.yaml", "checkpoints/last.ckpt"} <= set(before)
    for reason, settings in REFUSED.items():
        with pytest.raises(SystemExit) as stop:
            main([*run, "--trainer.max_epochs=4", "--ckpt_path=last", *settings])
        assert stop.value.code == 2, reason
        assert content("runs/x") == before, reason
    main([*run, "--trainer.max_epochs=3", "--ckpt_path=last"])  # nothing is left to do
    assert content("runs/x") == before
    main([*run, "--trainer.max_epochs=4", "--ckpt_path=last"])
    after = content("runs/x")
    assert after["metrics-1.csv"] == before["metrics.csv"]
    assert after["config.yaml"] != before["config.yaml"]


def content(folder: str) -> dict[str, bytes]:
    """Of all files but the lock."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file() and path.name != LOCK]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
