"""Figure of the support control: the same queries with two supports."""

from typing import Any

import pytorch_lightning as pl

from qgnet.callbacks.episode_figures import save_figure
from qgnet.outputs.drawing import Pixels, contact_sheet, overlay, query_image, support_image

HEADINGS = ("query, truth", "support", "prediction", "absent support", "prediction")


class ControlFigures(pl.Callback):
    """``two_supports.png`` of a test: queries with supports of their class and with supports of an absent class.

    It is only written if ``data.negative`` adds such episodes.

    Args:
        count: number of queries.
    """

    def __init__(self, count: int = 8) -> None:
        self.count = count
        self.rows: list[list[Pixels]] = []
        self.labels: list[str] = []
        self.queries: set[str] = set()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a new sheet."""
        self.rows, self.labels, self.queries = [], [], set()

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Collect the first queries that have a control."""
        for i, own in enumerate(batch.control_of.tolist()):
            if own < 0 or len(self.rows) == self.count or batch.query_name[i] in self.queries:
                continue
            self.queries.add(batch.query_name[i])
            query = query_image(batch, i)
            predicted = [overlay(query, outputs.masks[j]) for j in (own, i)]
            truth = overlay(query, batch.original_mask[own])
            right, wrong = support_image(batch, own), support_image(batch, i)
            self.rows.append([truth, right, predicted[0], wrong, predicted[1]])
            names = [pl_module.class_names[int(batch.class_id[j])] for j in (own, i)]
            self.labels.append(f"{names[0]}\nabsent:\n{names[1]}")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the sheet."""
        if self.rows:
            save_figure(
                trainer, contact_sheet(HEADINGS, self.rows, self.labels), "two_supports.png", "test/two_supports"
            )
