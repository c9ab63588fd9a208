"""Writes what a predict run over images finds."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytorch_lightning as pl

from qgnet.inference.task import SegmentedImage
from qgnet.outputs.folder import OutputFolder


class SegmentWriter(pl.Callback):
    """Each image's files as soon as it is segmented, its record last; meanwhile the next batch is segmented.

    Args:
        folder: that is written to.
    """

    def __init__(self, folder: OutputFolder) -> None:
        self.folder = folder
        self.thread = ThreadPoolExecutor(1)  # writes one batch after the other
        self.batch: Future[None] | None = None

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Have a batch written, once the one before is."""
        self._wait()
        self.batch = self.thread.submit(self._write, outputs)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait for the last batch."""
        self._wait()
        self.thread.shutdown()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Let the batch that is being written be whole, before others may write to the folder."""
        self.thread.shutdown()

    def _wait(self) -> None:
        if self.batch is not None:
            self.batch.result()  # raises what writing raised

    def _write(self, images: Sequence[SegmentedImage]) -> None:
        for image, result in images:
            self.folder.write(image, result)
