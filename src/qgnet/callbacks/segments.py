"""Writes what a predict run over photographs finds."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from qgnet.common.choices import Format
from qgnet.outputs.formats import FORMATS
from qgnet.outputs.records import keep, record_of, unreadable
from qgnet.segmenting.task import Answer


class SegmentWriter(pl.Callback):
    """Each photograph's files as soon as it is segmented, its record last; meanwhile the next batch is segmented.

    Args:
        out: folder.
        formats: names of `FORMATS`.
        run: fingerprint of the run.
    """

    def __init__(self, out: Path, formats: Sequence[Format], run: str) -> None:
        self.out = out
        self.writers = [writer for name in formats if (writer := FORMATS[name])]
        self.run = run

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A thread that writes one batch after the other."""
        self.thread = ThreadPoolExecutor(1)
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

    def _wait(self) -> None:
        if self.batch is not None:
            self.batch.result()  # raises what writing raised

    def _write(self, answers: Sequence[Answer]) -> None:
        for photograph, result in answers:
            if result is None:
                record = unreadable(photograph.path, photograph.error, self.run)
            else:
                for write in self.writers:
                    write(self.out, photograph.name, photograph.path, result)
                record = record_of(photograph.path, result, self.run)
            keep(self.out, photograph.name, record)
