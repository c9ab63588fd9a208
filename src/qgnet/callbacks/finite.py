"""Stops a training whose loss is not finite."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from qgnet.common.errors import InputError
from qgnet.tasks.base import is_logged


class FiniteLoss(pl.Callback):
    """Checks the loss at the trainer's logging interval, before a validation, and before the checkpoint of an epoch.

    Raises:
        InputError: if the loss is not finite. The state is saved as ``checkpoints/not_finite.ckpt``.
    """

    def __init__(self) -> None:
        self.loss: torch.Tensor | None = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the loss at the logging interval only, because reading it waits for a GPU."""
        self.loss = outputs["loss"]
        if is_logged(trainer, batch_idx):
            self._check(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the loss before a validation, whose outputs would not be finite either."""
        self._check(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the last loss of the epoch."""
        self._check(trainer)

    def _check(self, trainer: pl.Trainer) -> None:
        finite = self.loss is None or bool(torch.isfinite(self.loss))
        if trainer.strategy.reduce_boolean_decision(finite):  # all processes stop together
            return
        path = Path(trainer.default_root_dir) / "checkpoints/not_finite.ckpt"
        earlier = sorted(file.name for file in path.parent.glob("*.ckpt") if file != path)
        trainer.save_checkpoint(path)
        way = f"resume from {' or '.join(earlier)} in that folder" if earlier else "start again"
        raise InputError(
            f"The training loss is not finite at step {trainer.global_step}. The state is in {path}. Lower the "
            f"learning rate, or take --trainer.precision 32-true, and {way}."
        )
