"""Figures of stage 1: prior maps, and the views of a training."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from datamodules.unlabeled import ViewDataModule
from datamodules.views.object_images import ObjectImages
from qgnet.callbacks.episode_figures import save_figure
from qgnet.common.internals import batches_of_epoch, batches_trained
from qgnet.outputs.drawing import Pixels, contact_sheet, heat, overlay, to_array, view_row


class ViewFigures(pl.Callback):
    """Figures of the views of stage 1 and of the prior maps of its key encoder.

    ``pictures/views-<step>.png``: views and patches of the next images, at the start and after each validation.
    ``pictures/prior_maps-<step>.png``: prior maps of the first images with masks; ``prior_maps.png`` in a test.

    Args:
        count: number of images.
    """

    def __init__(self, count: int = 8) -> None:
        self.count = count
        self.rows: list[list[Pixels]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the first views as the network gets them."""
        self._views(trainer, begun=False)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a new sheet of prior maps."""
        self.rows = []

    on_test_start = on_validation_start

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Collect the first images with their prior maps, which are in ``outputs``."""
        if isinstance(batch, ObjectImages) and outputs is not None:
            for i in range(min(self.count - len(self.rows), len(outputs))):
                image = to_array(batch.image[i])
                self.rows.append([image, heat(outputs[i, 0].cpu().numpy()), overlay(image, batch.objects[i])])

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write both sheets."""
        if not trainer.sanity_checking:
            self._write(trainer, f"pictures/prior_maps-{trainer.global_step:06d}.png", "val/prior_maps")
            if trainer.state.fn == TrainerFn.FITTING:
                self._views(trainer, begun=True)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write ``prior_maps.png``."""
        self._write(trainer, "prior_maps.png", "test/prior_maps")

    def _write(self, trainer: pl.Trainer, name: str, key: str) -> None:
        sheet = contact_sheet(("image", "prior map", "objects"), self.rows, [""] * len(self.rows))
        save_figure(trainer, sheet, name, key)

    def _views(self, trainer: pl.Trainer, begun: bool) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not (trainer.is_global_zero and isinstance(data, ViewDataModule)):
            return
        views = data.data["train"]
        first = next_number(trainer, data.batch_size, begun)
        rows = [view_row(views, first + i) for i in range(min(self.count, len(views)))]
        headings = ("regions, views, patches", "global view 1", "global view 2", "patch 1", "patch 2")
        sheet = contact_sheet(headings, rows, [""] * len(rows))
        save_figure(trainer, sheet, f"pictures/views-{trainer.global_step:06d}.png", "train/views")


def next_number(trainer: pl.Trainer, batch_size: int, begun: bool) -> int:
    """The running number of the next sample of the training.

    Args:
        trainer: trainer during a fit.
        batch_size: images per process.
        begun: whether training steps were made; at its start, a run resumed after a whole epoch still counts the
            batches of that epoch.
    """
    sampler = trainer.train_dataloader.sampler  # type: ignore[union-attr]
    whole, part = divmod(batches_trained(trainer), batches_of_epoch(trainer))
    epoch = trainer.current_epoch + (whole if begun else 0)
    return int(epoch * sampler.total + part * batch_size * trainer.world_size)
