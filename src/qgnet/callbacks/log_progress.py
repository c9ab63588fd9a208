"""Progress of a run: Lightning's bar on a terminal, a few lines in a log."""

import sys
import time
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, TQDMProgressBar
from pytorch_lightning.trainer.states import TrainerFn

from qgnet.common.progress import Lines

LOSS = "train/loss"


def progress_bar(leave: bool = False) -> ProgressBar:
    """Lightning's progress bar on a terminal, else `LogProgress`; ``leave`` keeps the finished bar on the terminal."""
    return TQDMProgressBar(leave=leave) if sys.stdout.isatty() else LogProgress()


class LogProgress(ProgressBar):
    """Prints a line per epoch and per tenth of a training, and per tenth of a validation, a test or a prediction."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = True
        self.tenth = 0
        self.begun = 0.0
        self.steps: float = 0
        self.work: Lines[None] | None = None

    def disable(self) -> None:
        """Show nothing; Lightning calls this on all processes except the first."""
        self.shown = False

    def enable(self) -> None:
        """Show the lines."""
        self.shown = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print on the error output, like the lines."""
        print(*args, file=sys.stderr, flush=True, **kwargs)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.begun = time.monotonic()
        self.steps = trainer.estimated_stepping_batches
        self.tenth = self._tenth(trainer)

    def _tenth(self, trainer: pl.Trainer) -> int:
        """Number of finished tenths of the training; 0 if its length is unknown."""
        return int(10 * trainer.global_step / max(1, self.steps))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report each new tenth; at the end of an epoch the report follows the validation."""
        tenth = self._tenth(trainer)
        if tenth > self.tenth and not trainer.is_last_batch:
            self._report(trainer, {})
        self.tenth = tenth

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report, with the scores of the validation if there was one."""
        self._report(trainer, self.get_metrics(trainer, pl_module))

    def _report(self, trainer: pl.Trainer, values: dict[str, Any]) -> None:
        if not self.shown:
            return
        if LOSS in trainer.callback_metrics:
            values = {LOSS: float(trainer.callback_metrics[LOSS]), **values}
        scores = [f"{name} {value:.4g}" for name, value in values.items() if isinstance(value, float)]
        taken = timedelta(seconds=round(time.monotonic() - self.begun))
        of_all = "" if self.steps == float("inf") else f" of {self.steps}"
        parts = [f"Epoch {trainer.current_epoch}: step {trainer.global_step}{of_all}", f"{taken}", *scores]
        self.print(", ".join(parts))

    def _begin(self, title: str, batches: Any) -> None:
        if self.shown:
            total = sum(batches) if isinstance(batches, list) else batches
            self.work = Lines(None, title, None if total == float("inf") else int(total), unit="batch")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count, unless the validation is part of a training."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._begin(self.validation_description, trainer.num_val_batches)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count."""
        self._begin(self.test_description, trainer.num_test_batches)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count."""
        self._begin(self.predict_description, trainer.num_predict_batches)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        if self.work is not None:
            self.work.update()

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Finish the lines."""
        if self.work is not None:
            self.work.close()
            self.work = None

    on_test_end = on_predict_end = on_validation_end
