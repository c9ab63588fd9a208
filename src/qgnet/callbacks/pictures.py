"""Pictures of what the network sees and says, written to the run's folder and sent to loggers that take images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pytorch_lightning.trainer.states import TrainerFn
from skimage.segmentation import find_boundaries
from torch import Tensor

from datamodules.episodes import Episode
from datamodules.photographs import Photographs
from datamodules.transforms import fit_size
from datamodules.unlabeled import ViewDataModule, ViewDataset, Views
from qgnet.networks.layers import resize
from qgnet.tasks.segmentation import FewShotSegmentation, Segmented

Picture = NDArray[np.uint8]
FOREGROUND = np.array([255, 60, 40], np.float32)
IGNORED = np.array([200, 200, 200], np.float32)
BOUNDARY = (255, 255, 0)
FRAME = (255, 60, 40)
HEADINGS = ("support + mask", "query", "guided map", "prior map", "prediction", "ground truth")
CELL = 160
GAP = 6
HEADER = 24
LABEL = 150


class EpisodePictures(pl.Callback):
    """A contact sheet of the first episodes: ``pictures/`` after each validation, ``contact_sheet.png`` of a test.

    Args:
        count: number of episodes.
    """

    def __init__(self, count: int = 8) -> None:
        self.count = count
        self.rows: list[list[Picture]] = []
        self.labels: list[str] = []

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a new sheet."""
        self.rows, self.labels = [], []

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a new sheet."""
        self.rows, self.labels = [], []

    def _collect(self, task: FewShotSegmentation, segmented: Segmented, episode: Episode) -> None:
        for i in range(min(self.count - len(self.rows), len(episode.class_id))):
            self.rows.append(episode_row(episode, segmented, i))
            self.labels.append(task.class_names[int(episode.class_id[i])])

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Collect the first episodes."""
        self._collect(pl_module, outputs, batch)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Collect the first episodes."""
        self._collect(pl_module, outputs, batch)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write ``pictures/step-<n>.png``."""
        if not trainer.sanity_checking:
            self._write(trainer, f"pictures/step-{trainer.global_step:06d}.png", "val/episodes")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write ``contact_sheet.png``."""
        self._write(trainer, "contact_sheet.png", "test/episodes")

    def _write(self, trainer: pl.Trainer, name: str, key: str) -> None:
        if self.rows:
            publish(trainer, contact_sheet(HEADINGS, self.rows, self.labels), name, key)


class ViewPictures(pl.Callback):
    """What stage 1 sees, and what its key encoder makes of photographs.

    ``pictures/views-<step>.png``: views and patches of the images to come, at the start and after each validation;
    ``pictures/prior_maps-<step>.png``: prior maps of the first photographs, ``prior_maps.png`` of a test.

    Args:
        count: number of images.
    """

    def __init__(self, count: int = 8) -> None:
        self.count = count
        self.rows: list[list[Picture]] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the first views as the network will get them."""
        self._views(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a new sheet of prior maps."""
        self.rows = []

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a new sheet of prior maps."""
        self.rows = []

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Collect the first photographs."""
        self._collect(outputs, batch)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Collect the first photographs."""
        self._collect(outputs, batch)

    def _collect(self, maps: Tensor | None, batch: Views | Photographs) -> None:
        if isinstance(batch, Photographs) and maps is not None:
            for i in range(min(self.count - len(self.rows), len(maps))):
                picture = to_picture(batch.image[i])
                self.rows.append([picture, heat(maps[i, 0]), overlay(picture, batch.objects[i])])

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write both sheets."""
        if not trainer.sanity_checking:
            self._write(trainer, f"pictures/prior_maps-{trainer.global_step:06d}.png", "val/prior_maps")
            if trainer.state.fn == TrainerFn.FITTING:
                self._views(trainer)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write ``prior_maps.png``."""
        self._write(trainer, "prior_maps.png", "test/prior_maps")

    def _write(self, trainer: pl.Trainer, name: str, key: str) -> None:
        sheet = contact_sheet(("photograph", "prior map", "objects"), self.rows, [""] * len(self.rows))
        publish(trainer, sheet, name, key)

    def _views(self, trainer: pl.Trainer) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not (trainer.is_global_zero and isinstance(data, ViewDataModule)):
            return
        views = data.data["train"]
        first = trainer.current_epoch * len(views)
        rows = [view_row(views, first + i) for i in range(min(self.count, len(views)))]
        headings = ("regions + patches", "global view 1", "global view 2", "patch 1", "patch 2")
        sheet = contact_sheet(headings, rows, [""] * len(rows))
        publish(trainer, sheet, f"pictures/views-{trainer.global_step:06d}.png", "train/views")


def publish(trainer: pl.Trainer, picture: Picture, name: str, key: str) -> None:
    """Write a PNG into the run's folder (first process only) and hand it to loggers with ``log_image``."""
    if not trainer.is_global_zero:
        return
    path = Path(trainer.default_root_dir) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    for logger in trainer.loggers:
        if hasattr(logger, "log_image"):
            logger.log_image(key=key, images=[picture])


def view_row(views: ViewDataset, i: int) -> list[Picture]:
    """The image of views number ``i`` with its regions and the patches' frames, then the views and patches."""
    drawn, made = views.drawn(i), views[i]
    picture = drawn.image.copy()
    height, width = picture.shape[:2]
    regions = views.regions.of(drawn.image, drawn.name)
    if regions is not None:
        labels = cv2.resize(regions, (width, height), interpolation=cv2.INTER_NEAREST)
        picture[find_boundaries(labels)] = BOUNDARY
    for patch in drawn.patches:
        rows, columns = patch.window
        line = max(1, max(height, width) // 80)
        cv2.rectangle(picture, (columns.start, rows.start), (columns.stop - 1, rows.stop - 1), FRAME, line)
    return [picture, *(to_picture(v) for v in (*made.global_views, *made.local_patches))]


def episode_row(episode: Episode, segmented: Segmented, i: int) -> list[Picture]:
    """The pictures of episode ``i`` of a batch, in the order of ``HEADINGS``; of several supports the first.

    A network without self-correspondence has a black prior map.
    """
    canvas = episode.query_mask.shape[-1]
    height, width = episode.fitted_size[i]
    query = to_picture(episode.query_image[i])[:height, :width]
    original = episode.original_size[i][::-1]
    full = cv2.resize(query, original, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    maps = [
        heat(resize(m[i : i + 1].float(), (canvas, canvas))[0, 0])[:height, :width]
        if m is not None
        else np.zeros_like(query)
        for m in (segmented.output.guided_map, segmented.output.prior_map)
    ]
    support = overlay(to_picture(episode.support_images[i, 0]), episode.support_masks[i, 0])
    used = (episode.support_masks[i, 0] != 255).cpu().numpy()
    rows, columns = np.flatnonzero(used.any(1)), np.flatnonzero(used.any(0))
    support = support[: rows[-1] + 1, : columns[-1] + 1]
    truth = overlay(full, episode.original_mask[i])
    return [support, query, *maps, overlay(full, segmented.masks[i]), truth]


def to_picture(image: Tensor) -> Picture:
    """(3, H, W) uint8 → (H, W, 3) uint8."""
    return image.permute(1, 2, 0).cpu().numpy().astype(np.uint8, copy=False)


def overlay(image: Picture, mask: Tensor) -> Picture:
    """Foreground red, ignored pixels grey, both half transparent."""
    label = mask.cpu().numpy()
    blended = image.astype(np.float32)
    for value, colour in ((1, FOREGROUND), (255, IGNORED)):
        inside = label == value
        blended[inside] = 0.45 * blended[inside] + 0.55 * colour
    return blended.astype(np.uint8)


def heat(values: Tensor) -> Picture:
    """(H, W) in [0, 1] → viridis colours."""
    grey = (values.clamp(0, 1) * 255).to(torch.uint8).cpu().numpy()
    return cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS)[..., ::-1].astype(np.uint8)


def contact_sheet(headings: Sequence[str], rows: Sequence[Sequence[Picture]], labels: Sequence[str]) -> Picture:
    """Rows of pictures under headings, a label before each row, on white; every picture fits a square cell."""
    left = LABEL if any(labels) else GAP
    width = left + len(headings) * (CELL + GAP)
    sheet = Image.new("RGB", (width, HEADER + len(rows) * (CELL + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for column, heading in enumerate(headings):
        draw.text((left + column * (CELL + GAP), 5), heading, "black", font)
    for row, (pictures, label) in enumerate(zip(rows, labels, strict=True)):
        top = HEADER + row * (CELL + GAP)
        draw.text((GAP, top + CELL // 2 - 8), label, "black", font)
        for column, picture in enumerate(pictures):
            height, width = fit_size(picture.shape[0], picture.shape[1], CELL)
            scaled = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
            sheet.paste(scaled, (left + column * (CELL + GAP), top))
    return np.asarray(sheet)
