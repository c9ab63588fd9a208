"""Pictures of what the network sees and says, written to the run's folder and sent to loggers that take images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.trainer.states import TrainerFn
from skimage.segmentation import find_boundaries
from torch import Tensor

from datamodules.episodes.dataset import Episode
from datamodules.episodes.transforms import fit_size
from datamodules.unlabeled import ViewDataModule
from datamodules.views.dataset import ViewDataset, Views
from datamodules.views.photographs import Photographs
from qgnet.common.internals import batches_of_epoch, batches_trained
from qgnet.loggers.wandb import Masks, Wandb
from qgnet.metrics import intersection_and_union
from qgnet.networks.layers import resize
from qgnet.tasks.episodic import EpisodicTask, Segmented

Picture = NDArray[np.uint8]
FOREGROUND = np.array([255, 60, 40], np.float32)
IGNORED = np.array([200, 200, 200], np.float32)
BOUNDARY = (255, 255, 0)
VIEW_FRAME = (60, 150, 255)
PATCH_FRAME = (255, 60, 40)
SHOWN_ABOVE = 0.5
"""Where region maps are cut to be shown as a mask."""
HEADINGS = ("support + mask", "query", "guided map", "prior map", "prediction", "ground truth")
CELL = 160
GAP = 6
HEADER = 24
LABEL = 150


class Shown(NamedTuple):
    """One episode as it is shown.

    Attributes:
        label: its class.
        iou: of the foreground, in [0, 1].
        row: pictures in the order of ``HEADINGS``.
        support: first support image and {name: mask}, for overlays.
        query: query image at its own size and {name: mask}.
    """

    label: str
    iou: float
    row: list[Picture]
    support: tuple[Picture, Masks]
    query: tuple[Picture, Masks]


class EpisodePictures(pl.Callback):
    """A contact sheet of the first episodes, one of each query, and of a test's worst and best.

    ``pictures/step-<n>.png`` after each validation; ``contact_sheet.png`` and ``worst_and_best.png`` of a test, the
    latter with the lowest and the highest foreground IoU of all processes. Weights & Biases gets the same episodes
    with masks to switch on and off.

    Args:
        count: number of episodes on a sheet.
    """

    def __init__(self, count: int = 8) -> None:
        self.count = count
        self._begin()

    def _begin(self) -> None:
        self.first: list[Shown] = []
        self.queries: set[str] = set()
        self.worst: list[Shown] = []
        self.best: list[Shown] = []

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin new sheets."""
        self._begin()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin new sheets."""
        self._begin()

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Collect each query's first episode in which it shows the class."""
        for i in shown_episodes(batch):
            if len(self.first) < self.count and batch.query_name[i] not in self.queries:
                self.queries.add(batch.query_name[i])
                self.first.append(show(pl_module, outputs, batch, i, episode_iou(outputs, batch, i)))

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Collect the first, the worst and the best episodes."""
        self.on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        half = self.count // 2
        for i in shown_episodes(batch):
            iou = episode_iou(outputs, batch, i)
            low = len(self.worst) < half or iou < self.worst[-1].iou
            high = len(self.best) < half or iou > self.best[-1].iou
            if low or high:
                shown = show(pl_module, outputs, batch, i, iou)
                self._rank([*self.worst, *[shown] * low], [*self.best, *[shown] * high])

    def _rank(self, worst: list[Shown], best: list[Shown]) -> None:
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


def shown_episodes(batch: Episode) -> list[int]:
    """Numbers within a batch of the episodes whose query shows the class."""
    return list(batch.present.nonzero().flatten().tolist())


def of_all_processes(trainer: pl.Trainer, shown: list[Shown]) -> list[Shown]:
    """The episodes that each process has collected, together."""
    if trainer.world_size == 1:
        return shown
    gathered: list[list[Shown]] = [[] for _ in range(trainer.world_size)]
    torch.distributed.all_gather_object(gathered, shown)
    return [one for part in gathered for one in part]


def write_episodes(trainer: pl.Trainer, episodes: Sequence[Shown], name: str, key: str) -> None:
    """A contact sheet as PNG and to the loggers, to Weights & Biases the overlays too; nothing without episodes."""
    if not (episodes and trainer.is_global_zero):
        return
    labels = [f"{shown.label}\nIoU {100 * shown.iou:.0f} %" for shown in episodes]
    publish(trainer, contact_sheet(HEADINGS, [shown.row for shown in episodes], labels), name, key)
    images, masks, captions = [], [], []
    for shown in episodes:
        for role, (image, layers) in (("support", shown.support), ("query", shown.query)):
            images.append(image)
            masks.append(layers)
            captions.append(f"{shown.label}, {role}" + (f", IoU {100 * shown.iou:.0f} %" if role == "query" else ""))
    for logger in trainer.loggers:
        if isinstance(logger, Wandb):
            logger.log_overlays(f"{key}_overlays", images, masks, captions)


def episode_iou(segmented: Segmented, episode: Episode, i: int) -> float:
    """Foreground IoU of episode ``i`` of a batch; 1 if there is no foreground and none is predicted."""
    intersection, union = intersection_and_union(segmented.masks[i], episode.original_mask[i])
    return float(intersection[1] / union[1]) if union[1] else 1.0


def show(task: EpisodicTask, segmented: Segmented, episode: Episode, i: int, iou: float) -> Shown:
    """Episode ``i`` of a batch with everything that is drawn of it."""
    row = episode_row(episode, segmented, i)
    query = query_picture(episode, i)
    height, width = query.shape[:2]
    layers = {"prediction": segmented.masks[i], "ground truth": episode.original_mask[i]}
    masks: dict[str, Any] = {name: mask.cpu().numpy() for name, mask in layers.items()}
    for name, values in (("guided map", segmented.output.guided_map), ("prior map", segmented.output.prior_map)):
        if values is not None:
            above = on_canvas(values, episode, i)[0] > SHOWN_ABOVE
            masks[name] = cv2.resize(above.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    support = episode.support_images[i, 0], episode.support_masks[i, 0]
    return Shown(
        task.class_names[int(episode.class_id[i])],
        iou,
        row,
        (to_picture(support[0]), {"support": support[1].cpu().numpy()}),
        (query, masks),
    )


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

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the first views as the network will get them."""
        self._views(trainer, begun=False)

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
                self.rows.append([picture, heat(maps[i, 0].cpu().numpy()), overlay(picture, batch.objects[i])])

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
        sheet = contact_sheet(("photograph", "prior map", "objects"), self.rows, [""] * len(self.rows))
        publish(trainer, sheet, name, key)

    def _views(self, trainer: pl.Trainer, begun: bool) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not (trainer.is_global_zero and isinstance(data, ViewDataModule)):
            return
        views = data.data["train"]
        first = next_number(trainer, data.batch_size, begun)
        rows = [view_row(views, first + i) for i in range(min(self.count, len(views)))]
        headings = ("regions, views, patches", "global view 1", "global view 2", "patch 1", "patch 2")
        sheet = contact_sheet(headings, rows, [""] * len(rows))
        publish(trainer, sheet, f"pictures/views-{trainer.global_step:06d}.png", "train/views")


def publish(trainer: pl.Trainer, picture: Picture, name: str, key: str) -> None:
    """Write a PNG into the run's folder (first process only) and hand it to the loggers that take pictures."""
    if not trainer.is_global_zero:
        return
    path = Path(trainer.default_root_dir) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    for logger in trainer.loggers:
        if hasattr(logger, "log_image"):
            logger.log_image(key=key, images=[picture])
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(key, picture, trainer.global_step, dataformats="HWC")


def next_number(trainer: pl.Trainer, batch_size: int, begun: bool) -> int:
    """The running number of the first sample that training has not seen yet.

    Args:
        trainer: in a fit.
        batch_size: per process.
        begun: after some training; a run that goes on after a whole epoch still counts that one's batches as it begins.
    """
    sampler = trainer.train_dataloader.sampler  # type: ignore[union-attr]
    whole, part = divmod(batches_trained(trainer), batches_of_epoch(trainer))
    epoch = trainer.current_epoch + (whole if begun else 0)
    return int(epoch * sampler.total + part * batch_size * trainer.world_size)


def view_row(views: ViewDataset, i: int) -> list[Picture]:
    """Views number ``i``: the image with its regions and the frames of views (blue) and patches (red), then these."""
    drawn, made = views.drawn(i), views[i]
    picture = drawn.image.copy()
    height, width = picture.shape[:2]
    if drawn.regions is not None:
        labels = cv2.resize(drawn.regions, (width, height), interpolation=cv2.INTER_NEAREST)
        picture[find_boundaries(labels)] = BOUNDARY
    line = max(1, max(height, width) // 80)
    frames = [(view, VIEW_FRAME) for view in drawn.views] + [(patch.window, PATCH_FRAME) for patch in drawn.patches]
    for (rows, columns), colour in frames:
        cv2.rectangle(picture, (columns.start, rows.start), (columns.stop - 1, rows.stop - 1), colour, line)
    return [picture, *(to_picture(v) for v in (*made.global_views, *made.local_patches))]


def episode_row(episode: Episode, segmented: Segmented, i: int) -> list[Picture]:
    """The pictures of episode ``i`` of a batch, in the order of ``HEADINGS``; of several supports the first.

    A network without self-correspondence has a black prior map.
    """
    query, full = fitted_query(episode, i), query_picture(episode, i)
    maps = [
        heat(on_canvas(values, episode, i)[0]) if values is not None else np.zeros_like(query)
        for values in (segmented.output.guided_map, segmented.output.prior_map)
    ]
    truth = overlay(full, episode.original_mask[i])
    return [support_picture(episode, i), query, *maps, overlay(full, segmented.masks[i]), truth]


def support_picture(episode: Episode, i: int) -> Picture:
    """The first support of episode ``i`` with its mask, without padding."""
    support = overlay(to_picture(episode.support_images[i, 0]), episode.support_masks[i, 0])
    used = (episode.support_masks[i, 0] != 255).cpu().numpy()
    rows, columns = np.flatnonzero(used.any(1)), np.flatnonzero(used.any(0))
    return support[: rows[-1] + 1, : columns[-1] + 1]


def fitted_query(episode: Episode, i: int) -> Picture:
    """The query as the network sees it, without padding."""
    height, width = episode.fitted_size[i]
    return to_picture(episode.query_image[i])[:height, :width]


def query_picture(episode: Episode, i: int) -> Picture:
    """The query at its original size."""
    size = episode.original_size[i][::-1]
    return cv2.resize(fitted_query(episode, i), size, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)


def on_canvas(values: Tensor, episode: Episode, i: int) -> NDArray[np.float32]:
    """A region map (B, 1, h, w) → (1, H', W') of episode ``i`` at the network's size, without padding."""
    side = episode.query_mask.shape[-1]
    height, width = episode.fitted_size[i]
    return resize(values[i : i + 1].float(), (side, side))[0, :, :height, :width].cpu().numpy()


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


def heat(values: NDArray[np.float32]) -> Picture:
    """(H, W) in [0, 1] → viridis colours."""
    grey = (values.clip(0, 1) * 255).astype(np.uint8)
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
        draw.multiline_text((GAP, top + CELL // 2 - 16), label, "black", font)
        for column, picture in enumerate(pictures):
            height, width = fit_size(picture.shape[0], picture.shape[1], CELL)
            scaled = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
            sheet.paste(scaled, (left + column * (CELL + GAP), top))
    return np.asarray(sheet)
