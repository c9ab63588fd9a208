"""SLURM's signal that the time is up, heeded between two steps."""

import signal
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

from datamodules.internals import cluster_environment
from qgnet.tasks.base import ends_step


class Requeue(pl.Callback):
    """Saves and requeues a job on the signal of ``sbatch --signal=SIGUSR1@…``, all processes after the same step.

    Lightning's own handler does both, but at once: one process may then wait for the others to save while they wait for
    its gradients, and a step may be saved half done. Here the signal is only noted, and Lightning's handler is called
    when the step is over.
    """

    def __init__(self) -> None:
        self.signalled = False
        self.signum: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the place of Lightning's handler, if there is one."""
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
        """Save and requeue if any process has had the signal; gradients half accumulated could not be saved."""
        if self.signum is None or not ends_step(trainer, batch_idx):
            return
        if trainer.strategy.reduce_boolean_decision(self.signalled, all=False):
            self.signalled = False
            assert callable(self.save_and_requeue)
            self.save_and_requeue(self.signum, None)
