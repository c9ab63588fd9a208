"""Speed of a training, and its share of time spent waiting for data."""

import time
from typing import Any

import pytorch_lightning as pl

from datamodules.views.dataset import Views
from qgnet.tasks.base import is_logged


class Throughput(pl.Callback):
    """Logs speed and waiting time as means since the last log, without validations.

    ``train/images_per_second`` (stage 1) or ``train/episodes_per_second`` is the speed of all processes together.
    ``train/data_wait`` is the share of time spent waiting for the next batch, in [0, 1].
    """

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self.samples, self.waited, self.worked = 0, 0.0, 0.0
        self.left: float | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start again: the first batch of an epoch does not count, because the loaders start with it."""
        self._restart()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do not count the validation."""
        self.left = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the end of the wait for the batch."""
        self.entered = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch; log at the trainer's interval."""
        now = time.perf_counter()
        if self.left is not None:
            self.waited += self.entered - self.left
            self.worked += now - self.entered
            self.samples += len(batch[0])
        self.left = now
        if is_logged(trainer, batch_idx) and self.samples:
            kind = "images" if isinstance(batch, Views) else "episodes"
            total = self.waited + self.worked
            pl_module.log(f"train/{kind}_per_second", self.samples * trainer.world_size / total, batch_size=1)
            pl_module.log("train/data_wait", self.waited / total, batch_size=1)
            self._restart()
            self.left = time.perf_counter()
