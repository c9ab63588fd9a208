"""Handle SLURM's signal that the time is up, between two steps or two batches of a validation."""

import signal
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

from qgnet.common.internals import cluster_environment, repeated_validation
from qgnet.tasks.base import ends_step


class Requeue(pl.Callback):
    """Saves and requeues a job on the signal of ``sbatch --signal=SIGUSR1@…``, after the same step in all processes.

    Lightning's handler does both immediately. Then one process may wait for the others to save while they wait for its
    gradients, and a step may be saved half done. This callback only records the signal and calls Lightning's handler
    after the step. A validation can be long, so it is interrupted, and the resumed training repeats it.
    """

    def __init__(self) -> None:
        self.signalled = False
        self.signum: int | None = None
        self.common: list[int] = []
        """For each validation loader, the number of batches that every process has."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace Lightning's handler, if there is one."""
        environment = cluster_environment(trainer)
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
            self.signum = environment.requeue_signal or signal.SIGUSR1
            self.save_and_requeue = signal.getsignal(self.signum)
            signal.signal(self.signum, self._note)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signalled = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and requeue if any process got the signal; only after a whole step, as checkpoints hold no gradients."""
        if self.signum is not None and ends_step(trainer, batch_idx) and self._signalled_anywhere(trainer):
            self._save_and_requeue()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Agree on the number of batches that all processes have."""
        if self.signum is not None:
            own = torch.tensor(trainer.num_val_batches, device=pl_module.device)  # one number per loader
            self.common = trainer.strategy.reduce(own, reduce_op="min").tolist()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Save and requeue within a validation."""
        if self.signum is not None and batch_idx < self.common[dataloader_idx] and self._signalled_anywhere(trainer):
            with repeated_validation(trainer):
                self._save_and_requeue()

    def _signalled_anywhere(self, trainer: pl.Trainer) -> bool:
        return bool(trainer.strategy.reduce_boolean_decision(self.signalled, all=False))

    def _save_and_requeue(self) -> None:
        self.signalled = False
        assert callable(self.save_and_requeue)
        assert self.signum is not None
        self.save_and_requeue(self.signum, None)
