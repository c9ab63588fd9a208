"""Base of tasks over episodes: prediction, validation and test, with a support control."""

from typing import Any, NamedTuple

import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from datamodules.episodes.episode import Episode
from datamodules.episodes.letterbox import restore
from datamodules.episodic import EpisodeDataModule
from qgnet.common.errors import InputError
from qgnet.common.settings import Natural
from qgnet.losses import dice_loss, segmentation_loss, total_weight
from qgnet.metrics import ControlScore, EpisodeIoU, EpisodeScore, SupportControl
from qgnet.networks.few_shot import FewShotNetwork, Prediction
from qgnet.tasks.base import Task, normalise
from qgnet.tasks.classes import TrainedClasses
from qgnet.tasks.feature_cache import CachedInference

UNKNOWN_CLASSES = (
    "The checkpoint does not record its training classes. Make sure that these novel ones are not among them."
)

LEAK_REMEDY = (
    "Choose the fold or the novel classes of its training, or give the checkpoint that belongs to this choice. If you "
    "mean it, set --allow_trained_classes true; the result and the report will say so."
)
IMAGE_SIZE = "image_size"
"""Key in a checkpoint for the side of the network's square input."""
TASK = "task"
"""Key in a checkpoint for the import path of its task."""


class Segmented(NamedTuple):
    """The result of an evaluation step, for callbacks.

    Attributes:
        output: output of the network.
        masks: B masks (h, w) uint8 in {0, 1} at the original sizes of the queries.
    """

    output: Prediction
    masks: list[Tensor]


REUSE_MB = 4096
"""Cache size in MB for all supports of a fold of PASCAL-5i with ResNet-50, 473 px, float32."""


class EpisodicTask(Task):
    """Segments the queries of episodes and scores the results.

    Args:
        reuse: an evaluation encodes each image once and caches the features. False encodes it for each episode; the
            result is the same.
        reuse_mb: size of this cache in MB, per process and on its device.
        args: arguments of :class:`Task`.

    Attributes:
        method: its name in tables.
        auxiliary_weight: weight of the mean loss of the level logits.
        foreground_weight: weight of foreground pixels in the losses.
        dice_weight: weight of the Dice loss of the prediction.
        scores: ``val`` or ``test`` → its last scores.
        controls: ``val`` or ``test`` → its last support control; None without episodes of an absent class.
        image_size: side of the square images, in pixels; None before the first run.
        trained: the training classes; None before a training, and if the checkpoint does not record them.
        allow_trained_classes: whether a test may use classes of the training.
    """

    net: FewShotNetwork
    method: str
    auxiliary_weight = 1.0
    foreground_weight = 1.0
    dice_weight = 0.0

    def __init__(self, reuse: bool, reuse_mb: Natural, *args: Any) -> None:
        super().__init__(*args)
        self.inference = CachedInference(reuse_mb if reuse else 0)
        self.scores: dict[str, EpisodeScore] = {}
        self.controls: dict[str, ControlScore | None] = {}
        self.image_size: int | None = None
        self.trained: TrainedClasses | None = None
        self.classes_known = True
        self.allow_trained_classes = False

    def unused_settings(self) -> dict[str, list[str]]:
        """The size of the cache if nothing is cached."""
        return {} if self.hparams.get("reuse", True) else {"model.reuse is false": ["reuse_mb"]}

    def check_data(self, data: Any) -> None:
        """Raise InputError for a DataModule without episodes, or with an image size that the network does not take."""
        if not isinstance(data, EpisodeDataModule):
            raise InputError(
                f"{type(self).__name__} works on episodes, but {type(data).__name__} has none. "
                "Take an episodic DataModule such as Pascal5iDataModule."
            )
        self.net.check_side(data.image_size, "data.image_size")

    def setup(self, stage: str) -> None:
        """Check the DataModule and create the metrics."""
        self.check_data(self.data)
        self.class_names = self.data.class_names
        self.image_size = self.data.image_size
        self.metric = EpisodeIoU(self.data.novel_classes)
        self.control = SupportControl()
        super().setup(stage)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save also the image size, the training classes and the task's import path."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[TASK] = import_path(type(self))
        if self.image_size is not None:
            checkpoint[IMAGE_SIZE] = self.image_size
        if self.trained is not None:
            self.trained.write(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore also the training classes."""
        super().on_load_checkpoint(checkpoint)
        self.trained = TrainedClasses.read(checkpoint)
        self.classes_known = self.trained is not None

    def on_fit_start(self) -> None:
        """Load the starting weights; in a training, record the base classes as training classes.

        Raises:
            InputError: if novel classes are among the training classes and ``allow_trained_classes`` is not set.
        """
        super().on_fit_start()
        self.leaked_classes(refuse=not self.allow_trained_classes)
        if self.trainer.training and self.classes_known:
            self.trained = TrainedClasses.of(self.data, self.trained)

    on_validation_start = on_test_start = on_fit_start

    def on_predict_start(self) -> None:
        """Load the starting weights; only warn if novel classes are among the training classes."""
        super().on_fit_start()
        self.leaked_classes(refuse=False)

    def leaked_classes(self, refuse: bool) -> list[str] | None:
        """The novel classes of this data that the network was trained on; None if its checkpoint does not record them.

        Raises:
            InputError: if there are any and ``refuse`` is set.
        """
        if not self.classes_known:
            rank_zero_warn(UNKNOWN_CLASSES)
            return None
        if self.trained is None:
            return []
        leaked = self.trained.among_novel(self.data)
        if leaked and refuse:
            raise InputError(f"{self.trained.message(leaked)} {LEAK_REMEDY}")
        if leaked:
            rank_zero_warn(self.trained.message(leaked))
        return leaked

    def forward(self, episode: Episode) -> Prediction:
        """Run the network on a batch of episodes."""
        return self.net(normalise(episode.query_image), normalise(episode.support_images), episode.support_masks)

    def training_step(self, episode: Episode, batch_idx: int) -> Tensor:
        """The loss of a batch: main, auxiliary and Dice loss, weighted."""
        mask = episode.query_mask
        total = total_weight(mask, self.foreground_weight)
        if self.trainer.world_size > 1:
            total = self.trainer.strategy.reduce(total, reduce_op="mean")
        prediction = self(episode)
        main, auxiliary = segmentation_loss(prediction, mask, self.foreground_weight, total)
        loss = main + self.auxiliary_weight * auxiliary
        losses = {"main_loss": main, "auxiliary_loss": auxiliary}
        if self.dice_weight:
            losses["dice_loss"] = dice_loss(prediction.logits, mask)
            loss = loss + self.dice_weight * losses["dice_loss"]
        losses["loss"] = loss
        self.log_means("train", losses, len(episode.class_id))
        return loss

    def predict_step(self, episode: Episode, batch_idx: int) -> Segmented:
        """Segment the queries; masks have the queries' original sizes."""
        output = self.inference.segment(self.net, episode)
        self.check_finite(episode.query_name, output.logits)
        sizes = zip(output.logits[:, 1] - output.logits[:, 0], episode.content_size, episode.original_size, strict=True)
        full = [restore(score_map, content_size, size) for score_map, content_size, size in sizes]
        return Segmented(output, [(score_map > 0).to(torch.uint8) for score_map in full])

    def validation_step(self, episode: Episode, batch_idx: int) -> Segmented:  # type: ignore[override]
        """Segment the queries and update the metrics."""
        segmented = self.predict_step(episode, batch_idx)
        for i, target in enumerate(episode.original_mask):
            other = int(episode.control_of[i])
            if other < 0:
                self.metric.update(segmented.masks[i], target, int(episode.class_id[i]))
            else:
                self.control.update(segmented.masks[other], segmented.masks[i], target)
        return segmented

    test_step = validation_step  # type: ignore[assignment]

    def on_validation_epoch_start(self) -> None:
        """Clear the cache, because the weights may have changed."""
        self.inference.clear()

    on_test_epoch_start = on_predict_epoch_start = on_validation_epoch_start

    def on_predict_epoch_end(self) -> None:
        """Clear the cache; InputError if an output was not finite."""
        self.require_finite()
        needed = self.inference.needed_mb()
        if needed:
            rank_zero_warn(
                f"model.reuse_mb is too small for the largest encoded image, which takes {needed} MB, so it was "
                "encoded anew for each episode. The result is the same; with a larger model.reuse_mb it is faster."
            )
        self.inference.clear()

    def on_validation_epoch_end(self) -> None:
        """Log ``val/miou``, ``val/fb_iou``, the IoU of each class, and the support control if there is one."""
        self.on_predict_epoch_end()
        stage = self.evaluation
        score, control = self.metric.compute(), self.control.compute()
        self.metric.reset()
        self.control.reset()
        self.scores[stage], self.controls[stage] = score, control
        self.log_dict({f"{stage}/miou": score.miou, f"{stage}/fb_iou": score.fb_iou}, prog_bar=True)
        for class_id, iou in zip(self.metric.class_ids, score.class_iou, strict=True):
            self.log(f"{stage}/iou/{self.class_names[class_id]}", iou)
        if control is not None:
            self.log_dict({f"{stage}/{name}": value for name, value in control._asdict().items()})

    on_test_epoch_end = on_validation_epoch_end


def import_path(task: type[EpisodicTask]) -> str:
    """Module and name of a task, for importing it."""
    return f"{task.__module__}.{task.__qualname__}"
