"""Writes the image descriptors of stage 1."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl

from datamodules.files.writing import atomic_write
from qgnet.common.terminal import say


class DescriptorWriter(pl.Callback):
    """Writes ``descriptors.npz`` in ``predict``: ``names`` (N,) and ``descriptors`` (N, C) float32 of length 1."""

    def __init__(self) -> None:
        self.batches: list[Any] = []

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the batch."""
        self.batches.append(outputs)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file; with several processes, one per process."""
        folder = Path(trainer.default_root_dir)
        suffix = f"-{trainer.global_rank}" if trainer.world_size > 1 else ""
        names = np.array([name for batch in self.batches for name in batch.names])
        descriptors = np.concatenate([batch.descriptors.cpu().numpy() for batch in self.batches])
        file = folder / f"descriptors{suffix}.npz"
        with atomic_write(file) as part, open(part, "wb") as stream:
            np.savez(stream, names=names, descriptors=descriptors)
        say(f"Descriptors: {file}")
        self.batches = []
