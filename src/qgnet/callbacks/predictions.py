"""Writes predicted masks as PNG files."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from PIL import Image

from datamodules.files.writing import atomic_write
from qgnet.common.terminal import printable, say
from qgnet.outputs.file_names import LONGEST


class MaskWriter(pl.Callback):
    """Writes ``predictions/<episode>_<query>_<class>.png`` in ``predict``: 0 and 255, at the size of the query."""

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Write the masks of the batch; raises if the output of the network is not finite."""
        pl_module.require_finite()
        folder = Path(trainer.default_root_dir) / "predictions"
        numbers = trainer.predict_dataloaders.batch_sampler.seen_batch_indices[batch_idx]  # type: ignore[union-attr]
        for number, name, class_id, mask in zip(
            numbers, batch.query_name, batch.class_id.tolist(), outputs.masks, strict=True
        ):
            with atomic_write(folder / file_name(number, name, pl_module.class_names[class_id])) as part:
                Image.fromarray((mask * 255).cpu().numpy()).save(part, format="PNG")

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print their folder."""
        say(f"Masks: {Path(trainer.default_root_dir) / 'predictions'}")


def file_name(number: int, query: str, name: str) -> str:
    """File name of a mask. Long names are shortened; the number of the episode keeps them unique."""
    stem = printable(f"{number:05d}_{query}_{name}").replace("/", "_").replace("\\", "_").replace(" ", "_")
    return f"{stem.encode()[: LONGEST - len('.png')].decode(errors='ignore')}.png"
