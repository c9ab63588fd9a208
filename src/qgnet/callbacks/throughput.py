"""How fast a training runs, and how much of the time it waits for data."""

import time
from typing import Any

import pytorch_lightning as pl

from datamodules.views.dataset import Views
from qgnet.tasks.base import is_logged


class Throughput(pl.Callback):
    """Speed and waiting, as means since they were logged last; validations in between are not counted.

    ``train/images_per_second`` (stage 1) or ``train/episodes_per_second`` is that of all processes together,
    ``train/data_wait`` the share of the time in [0, 1] that went into waiting for the next batch.
    """

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self.samples, self.waited, self.worked = 0, 0.0, 0.0
        self.left: float | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The first batch of an epoch, for which the loaders start, is not counted."""
        self._restart()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do not count the validation."""
        self.left = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The wait is over."""
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
