"""Writes the results of a predict run over images."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytorch_lightning as pl

from qgnet.inference.task import SegmentedImage
from qgnet.outputs.folder import OutputFolder


class SegmentWriter(pl.Callback):
    """Writes the files of each segmented image, its record last, while the next batch is segmented.

    Args:
        folder: the output folder.
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
        """Start to write a batch after the previous one is written."""
        self._wait()
        self.batch = self.thread.submit(self._write, outputs)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait for the last batch."""
        self._wait()
        self.thread.shutdown()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Finish writing the current batch before others may write to the folder."""
        self.thread.shutdown()

    def _wait(self) -> None:
        if self.batch is not None:
            self.batch.result()  # raises the error of the writing thread

    def _write(self, images: Sequence[SegmentedImage]) -> None:
        for image, result in images:
            self.folder.write(image, result)
