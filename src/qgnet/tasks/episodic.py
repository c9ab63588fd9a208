"""What tasks over episodes have in common: prediction, validation and test, with a control of the support."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.base import EpisodeDataModule
from datamodules.episodes import Episode
from datamodules.errors import InputError
from qgnet.metrics import ControlScore, EpisodeIoU, EpisodeScore, SupportControl
from qgnet.networks.matcher import Matcher
from qgnet.networks.qgnet import QGNet, QGNetOutput
from qgnet.tasks.base import Task, normalise

IMAGE_SIZE = "image_size"
"""Key of a checkpoint under which the side of the network's square is kept."""


class Segmented(NamedTuple):
    """What a test or predict step gives to callbacks.

    Attributes:
        output: of the network.
        masks: B masks (h, w) uint8 in {0, 1} at the queries' own sizes.
    """

    output: QGNetOutput
    masks: list[Tensor]


class EpisodicTask(Task):
    """Segments the queries of episodes and scores the result.

    Attributes:
        method: its name in tables.
        scores: of the last ``val`` and ``test``.
        controls: of the last ``val`` and ``test``; None without episodes whose supports show an absent class.
    """

    net: QGNet | Matcher
    method: str

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.scores: dict[str, EpisodeScore] = {}
        self.controls: dict[str, ControlScore | None] = {}

    def setup(self, stage: str) -> None:
        """Refuse a DataModule without episodes; make the metrics."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, EpisodeDataModule):
            raise InputError(
                f"{type(self).__name__} works on episodes, but {type(data).__name__} has none. "
                "Take an episodic DataModule such as Pascal5iDataModule."
            )
        self.class_names = data.class_names
        self.metric = EpisodeIoU(data.novel_classes)
        self.control = SupportControl()
        super().setup(stage)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the image size, too, which a network is best used with."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[IMAGE_SIZE] = self.trainer.datamodule.image_size  # type: ignore[attr-defined]

    def forward(self, episode: Episode) -> QGNetOutput:
        """The network on a batch of episodes."""
        return self.net(normalise(episode.query_image), normalise(episode.support_images), episode.support_masks)

    def predict_step(self, episode: Episode, batch_idx: int) -> Segmented:
        """Masks at the queries' own sizes."""
        output = self(episode)
        margins = output.logits[:, 1] - output.logits[:, 0]
        sizes = zip(margins, episode.fitted_size, episode.original_size, strict=True)
        full = [restore(margin, fitted, size) for margin, fitted, size in sizes]
        return Segmented(output, [(margin > 0).to(torch.uint8) for margin in full])

    def validation_step(self, episode: Episode, batch_idx: int) -> Segmented:  # type: ignore[override]
        """Segment and count."""
        segmented = self.predict_step(episode, batch_idx)
        for i, target in enumerate(episode.original_mask):
            if episode.present[i]:
                self.metric.update(segmented.masks[i], target, int(episode.class_id[i]))
            else:  # follows the same query under its own class's supports
                self.control.update(segmented.masks[i - 1], segmented.masks[i], target)
        return segmented

    def test_step(self, episode: Episode, batch_idx: int) -> Segmented:  # type: ignore[override]
        """As in validation."""
        return self.validation_step(episode, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/miou``, ``val/fb_iou``, each class's IoU, and the control of the support if there is one."""
        self._log_score("val")

    def on_test_epoch_end(self) -> None:
        """As after a validation, by the name of ``test``."""
        self._log_score("test")

    def _log_score(self, stage: str) -> None:
        score, control = self.metric.compute(), self.control.compute()
        self.metric.reset()
        self.control.reset()
        self.scores[stage], self.controls[stage] = score, control
        self.log_dict({f"{stage}/miou": score.miou, f"{stage}/fb_iou": score.fb_iou}, prog_bar=True)
        for class_id, iou in zip(self.metric.class_ids, score.class_iou, strict=True):
            self.log(f"{stage}/iou/{self.class_names[class_id]}", iou)
        if control is not None:
            self.log_dict({f"{stage}/{name}": value for name, value in control._asdict().items()})


def restore(values: Tensor, fitted: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Values at the size of the score, from the square canvas that the query was fitted into.

    The padding is cut off first, so the scale is exact.

    Args:
        values: (S, S).
        fitted: (h, w) of the canvas's part without padding.
        size: (H, W) of the score.

    Returns:
        (H, W) float32.
    """
    without_padding = values[None, None, : fitted[0], : fitted[1]].float()
    return F.interpolate(without_padding, size, mode="bilinear", align_corners=False)[0, 0]
