"""The lines of a run on the terminal: its task and data, the folder of its files, and its scores."""

import math
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_warn

from datamodules.episodic import EpisodeDataModule
from qgnet.common.terminal import say
from qgnet.loggers.wandb import Wandb

PREFIXES = {"fit": "val/", "validate": "val/", "test": "test/"}
"""Prefixes of the scores that are shown at the end."""
OF_ONE_CLASS = "/iou/"


class Announce(pl.Callback):
    """Prints the task, the data and the folder of the files at the start, and the scores at the end."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the task and its number of trained parameters."""
        begin(trainer, pl_module)
        between, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
        if trainer.limit_val_batches and between and epochs is not None and 0 <= epochs < between:
            rank_zero_warn(
                f"trainer.check_val_every_n_epoch is {between}, but the training ends after {epochs} epochs: it is "
                "never validated, and there will be no best.ckpt."
            )
        sizes = [(p.numel(), p.requires_grad) for p in pl_module.parameters()]
        trained, total = sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)
        say(f"Trains {trained:,} of {total:,} parameters")

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the task, unless this is part of a training."""
        if trainer.state.fn != TrainerFn.FITTING:
            begin(trainer, pl_module)

    on_validation_start = on_predict_start = on_test_start

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Print the scores, the checkpoints of a training, and where to see the logged run."""
        if stage == "fit":
            say(f"Trained {trainer.global_step} steps")
        scores = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if stage in PREFIXES and name.startswith(PREFIXES[stage]) and OF_ONE_CLASS not in name
        }
        shown = [f"{name} {value:.4g}" for name, value in scores.items() if not math.isnan(value)]
        if shown:
            say(", ".join(shown))
        if stage == "fit":
            for saved in trainer.checkpoint_callbacks:
                if isinstance(saved, ModelCheckpoint) and Path(saved.best_model_path).is_file():
                    say(f"Checkpoint: {saved.best_model_path}")
        for logger in trainer.loggers:
            if isinstance(logger, Wandb) and trainer.is_global_zero:
                say(logger.location())


def begin(trainer: pl.Trainer, task: pl.LightningModule) -> None:
    """Print the task, its data and device, the checkpoint it starts from, and the run's folder."""
    assert trainer.state.fn is not None
    data = trainer.datamodule  # type: ignore[attr-defined]
    episodic = isinstance(data, EpisodeDataModule)
    name = data.dataset_name if episodic else type(data).__name__
    parts = [f"{trainer.state.fn.value}: {type(task).__name__} on {name}"]
    if episodic:
        parts += ["all classes" if data.fold is None else f"fold {data.fold}", f"{data.shots}-shot"]
    processes = f"{trainer.world_size} processes on " if trainer.world_size > 1 else ""
    say(", ".join([*parts, f"seed {data.seed}", f"{processes}{trainer.strategy.root_device.type}"]))
    if trainer.ckpt_path:
        say(f"Weights: {trainer.ckpt_path}")
    say(f"Files: {trainer.default_root_dir}")
