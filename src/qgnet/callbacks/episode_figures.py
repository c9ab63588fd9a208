"""Figures of episodes and predictions, written to the run's folder and sent to loggers that take images."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger

from datamodules.episodes.episode import Episode
from datamodules.files.writing import atomic_write
from qgnet.loggers.wandb import Masks, Wandb
from qgnet.metrics import intersection_and_union
from qgnet.outputs.drawing import (
    SHOWN_ABOVE,
    Pixels,
    contact_sheet,
    episode_row,
    on_canvas,
    query_image,
    to_array,
)
from qgnet.tasks.episodic import EpisodicTask, Segmented


class EpisodeFigure(NamedTuple):
    """The content of a figure of one episode.

    Attributes:
        label: name of its class.
        iou: IoU of the foreground, in [0, 1].
        row: heading → image.
        support: first support image and {name: mask}, for overlays.
        query: query image at its own size and {name: mask}.
    """

    label: str
    iou: float
    row: dict[str, Pixels]
    support: tuple[Pixels, Masks]
    query: tuple[Pixels, Masks]


class EpisodeFigures(pl.Callback):
    """Contact sheets of the first episodes, one per query, and of the worst and best episodes of a test.

    Each validation writes ``pictures/step-<n>.png``. A test writes ``contact_sheet.png`` and ``worst_and_best.png``,
    with the lowest and the highest foreground IoU of all processes. Weights & Biases gets the same episodes with masks
    to switch on and off.

    Args:
        count: number of episodes on a sheet.
    """

    def __init__(self, count: int = 8) -> None:
        self.count = count
        self._begin()

    def _begin(self) -> None:
        self.first: list[EpisodeFigure] = []
        self.queries: set[str] = set()
        self.worst: list[EpisodeFigure] = []
        self.best: list[EpisodeFigure] = []

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin new sheets."""
        self._begin()

    on_test_start = on_validation_start

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Collect the first episode of each query that shows the class."""
        self._collect(pl_module, outputs, batch)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Collect the first, the worst and the best episodes."""
        half = self.count // 2
        for i, iou in self._collect(pl_module, outputs, batch).items():
            low = len(self.worst) < half or iou < self.worst[-1].iou
            high = len(self.best) < half or iou > self.best[-1].iou
            if low or high:
                shown = draw_episode(pl_module, outputs, batch, i, iou)
                self._rank([*self.worst, *[shown] * low], [*self.best, *[shown] * high])

    def _collect(self, task: EpisodicTask, segmented: Segmented, batch: Episode) -> dict[int, float]:
        """Collect the first episode of each query; return number in the batch → IoU of the present episodes."""
        ious = episode_ious(segmented, batch)
        for i, iou in ious.items():
            if len(self.first) < self.count and batch.query_name[i] not in self.queries:
                self.queries.add(batch.query_name[i])
                self.first.append(draw_episode(task, segmented, batch, i, iou))
        return ious

    def _rank(self, worst: list[EpisodeFigure], best: list[EpisodeFigure]) -> None:
        half = self.count // 2
        self.worst = sorted(worst, key=lambda shown: shown.iou)[:half]
        self.best = sorted(best, key=lambda shown: -shown.iou)[:half]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write ``pictures/step-<n>.png``."""
        if not trainer.sanity_checking:
            write_episodes(trainer, self.first, f"pictures/step-{trainer.global_step:06d}.png", "val/episodes")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write ``contact_sheet.png`` and ``worst_and_best.png``."""
        self._rank(of_all_processes(trainer, self.worst), of_all_processes(trainer, self.best))
        write_episodes(trainer, self.first, "contact_sheet.png", "test/episodes")
        write_episodes(trainer, [*self.worst, *reversed(self.best)], "worst_and_best.png", "test/worst_and_best")


def of_all_processes(trainer: pl.Trainer, shown: list[EpisodeFigure]) -> list[EpisodeFigure]:
    """The collected episodes of all processes."""
    if trainer.world_size == 1:
        return shown
    gathered: list[list[EpisodeFigure]] = [[] for _ in range(trainer.world_size)]
    torch.distributed.all_gather_object(gathered, shown)
    return [one for part in gathered for one in part]


def write_episodes(trainer: pl.Trainer, episodes: Sequence[EpisodeFigure], name: str, key: str) -> None:
    """Save a contact sheet as PNG and log it, in Weights & Biases with overlays; do nothing without episodes."""
    if not (episodes and trainer.is_global_zero):
        return
    labels = [f"{shown.label}\nIoU {100 * shown.iou:.0f} %" for shown in episodes]
    rows = [list(shown.row.values()) for shown in episodes]
    save_figure(trainer, contact_sheet(list(episodes[0].row), rows, labels), name, key)
    images, masks, captions = [], [], []
    for shown in episodes:
        for role, (image, layers) in (("support", shown.support), ("query", shown.query)):
            images.append(image)
            masks.append(layers)
            captions.append(f"{shown.label}, {role}" + (f", IoU {100 * shown.iou:.0f} %" if role == "query" else ""))
    for logger in trainer.loggers:
        if isinstance(logger, Wandb):
            logger.log_overlays(f"{key}_overlays", images, masks, captions)


def episode_ious(segmented: Segmented, episode: Episode) -> dict[int, float]:
    """Number in the batch → foreground IoU, for episodes whose query shows the class; waits for a GPU only once.

    An IoU is 1 if the target and the prediction have no foreground.
    """
    numbers = episode.present.nonzero().flatten().tolist()
    counts = [intersection_and_union(segmented.masks[i], episode.original_mask[i]) for i in numbers]
    ious = torch.stack([both[1] / either[1] for both, either in counts]).tolist() if counts else []
    return {i: 1.0 if math.isnan(iou) else iou for i, iou in zip(numbers, ious, strict=True)}


def draw_episode(task: EpisodicTask, segmented: Segmented, episode: Episode, i: int, iou: float) -> EpisodeFigure:
    """The content of the figure of episode ``i`` of a batch."""
    row = episode_row(episode, segmented, i)
    query = query_image(episode, i)
    height, width = query.shape[:2]
    layers = {"prediction": segmented.masks[i], "ground truth": episode.original_mask[i]}
    masks: dict[str, Any] = {name: mask.cpu().numpy() for name, mask in layers.items()}
    for name, values in segmented.output.maps.items():
        above = on_canvas(values, episode, i)[0] > SHOWN_ABOVE
        masks[f"{name} map"] = cv2.resize(above.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    support = episode.support_images[i, 0], episode.support_masks[i, 0]
    return EpisodeFigure(
        task.class_names[int(episode.class_id[i])],
        iou,
        row,
        (to_array(support[0]), {"support": support[1].cpu().numpy()}),
        (query, masks),
    )


def save_figure(trainer: pl.Trainer, figure: Pixels, name: str, key: str) -> None:
    """Write a PNG into the run's folder (first process only) and send it to the loggers that take images."""
    if not trainer.is_global_zero:
        return
    path = Path(trainer.default_root_dir) / name
    with atomic_write(path) as part:
        Image.fromarray(figure).save(part, format="PNG")
    for logger in trainer.loggers:
        if hasattr(logger, "log_image"):
            logger.log_image(key=key, images=[figure])
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(key, figure, trainer.global_step, dataformats="HWC")
