"""Stops a training whose loss is not finite."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from qgnet.common.errors import InputError
from qgnet.tasks.base import is_logged


class FiniteLoss(pl.Callback):
    """Looks at the loss as often as the trainer logs, before a validation, and before an epoch's checkpoint is written.

    Raises:
        InputError: if the loss is not finite; ``checkpoints/not_finite.ckpt`` then holds the state.
    """

    def __init__(self) -> None:
        self.loss: torch.Tensor | None = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss, which a GPU has to be waited for, only now and then."""
        self.loss = outputs["loss"]
        if is_logged(trainer, batch_idx):
            self._check(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the loss before a validation, which would only find the outputs not finite, too."""
        self._check(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the epoch's last loss."""
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
