"""Stage 2 for few data: a head of score maps, trained on episodes over a frozen encoder."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor

from datamodules.episodes.episode import Episode
from qgnet.common.errors import InputError
from qgnet.common.settings import NOT_EMPTY, Count
from qgnet.networks.few_shot import Prediction
from qgnet.networks.score_map_network import ScoreMapNetwork
from qgnet.tasks.base import HighStage, Weight, as_setting_error, normalise
from qgnet.tasks.episodic import REUSE_MB
from qgnet.tasks.kept_features import KeptFeatures
from qgnet.tasks.over_encoder import TaskOverEncoder, frozen_encoder
from qgnet.tasks.schedules import Schedule

GB = 2**30


def adamw(params: Any) -> torch.optim.Optimizer:
    """What the head was tried with."""
    return torch.optim.AdamW(params, lr=2e-3, weight_decay=0.01)


class ScoreMapSegmentation(TaskOverEncoder):
    """Score maps of the supports, corrected by a small network; see :class:`ScoreMapNetwork`.

    Args:
        encoder: a timm model, frozen.
        encoder_weights: ``packaged``, ``imagenet``, ``random``, or a file (state dict, or a prior extractor of
            stage 1).
        high_stage: the encoder's last stage, 4 or 3.
        dilated: whether the encoder's last stages are dilated to stride 8. False leaves them as they were trained.
        width: channels of the residual blocks, a multiple of 8.
        dilations: one residual block each.
        edge_width: channels that each of the query's finest levels is brought to.
        fine_width: channels at those levels, a multiple of 8.
        dice_weight: of the Dice loss beside the cross-entropy.
        foreground_weight: of foreground pixels in the cross-entropy.
        training_shots: numbers of supports that training steps take by turns, at most ``data.shots``.
            Empty: always that.
        keep_gb: size in GB of the encoder's features of training images that are kept on disk, in the run's folder
            until the training ends. For ``data.versions``, without which no image returns.
        optimizer: takes the trainable parameters.
        schedule: of the learning rate, see :class:`FewShotSegmentation`.
        reuse: an evaluation encodes each image once and caches its features. False encodes it anew for each episode;
            the result is the same.
        reuse_mb: size of this cache in MB, per process and on its device.
    """

    net: ScoreMapNetwork
    method = "score maps"

    def __init__(
        self,
        encoder: str = "tf_efficientnet_lite0",
        encoder_weights: str = "packaged",
        high_stage: HighStage = 4,
        dilated: bool = False,
        width: Count = 48,
        dilations: Annotated[Sequence[Count], NOT_EMPTY] = (1, 2, 4, 2, 1),
        edge_width: Count = 16,
        fine_width: Count = 16,
        dice_weight: Weight = 1.0,
        foreground_weight: Weight = 1.0,
        training_shots: Sequence[Count] = (),
        keep_gb: Weight = 0.0,
        optimizer: OptimizerCallable = adamw,
        schedule: Schedule = "cosine",
        reuse: bool = True,
        reuse_mb: int = REUSE_MB,
    ) -> None:
        super().__init__(encoder_weights, reuse, reuse_mb, optimizer, schedule)
        self.save_hyperparameters(ignore=["optimizer", "schedule"])
        self.dice_weight = dice_weight
        self.training_shots = tuple(training_shots)
        self.keep_gb = keep_gb
        self.kept: KeptFeatures | None = None
        self.foreground_weight = foreground_weight
        settings = {"width": width, "dilations": dilations, "edge_width": edge_width, "fine_width": fine_width}
        encoder_net = frozen_encoder(encoder, high_stage, dilated)
        with as_setting_error():
            self.net = ScoreMapNetwork(encoder_net, **settings)

    def unused_settings(self) -> dict[str, list[str]]:
        """What is kept, where no image returns."""
        return super().unused_settings() | ({} if self.data.versions else {"data.versions is null": ["keep_gb"]})

    def setup(self, stage: str) -> None:
        """As in every task over episodes; makes place for features of training images.

        InputError if ``training_shots`` are more than the episodes have.
        """
        super().setup(stage)
        most = max(self.training_shots, default=1)
        if stage == "fit" and most > self.data.shots:
            raise InputError(
                f"model.training_shots is {list(self.training_shots)}, but episodes have data.shots {self.data.shots}. "
                f"Set --data.shots {most}."
            )
        if stage == "fit" and self.keep_gb and self.data.versions:
            folder = Path(self.trainer.default_root_dir) / "features" / str(self.global_rank)
            self.kept = KeptFeatures(folder, int(self.keep_gb * GB))

    def training_step(self, episode: Episode, batch_idx: int) -> Tensor:
        """As in every task over episodes, with as many supports as the step's turn has."""
        if self.training_shots:
            shots = self.training_shots[batch_idx % len(self.training_shots)]
            episode = episode._replace(
                support_images=episode.support_images[:, :shots], support_masks=episode.support_masks[:, :shots]
            )
        return super().training_step(episode, batch_idx)

    def forward(self, episode: Episode) -> Prediction:
        """The network on a batch of episodes; in training with features that are kept."""
        if self.kept is None or not self.training:
            return super().forward(episode)
        net, (query, *others) = self.net, self._kept_features(self.kept, episode)
        encoded = net.encode_query(normalise(episode.query_image), query)
        shots = zip(episode.support_images.unbind(1), episode.support_masks.unbind(1), others, strict=True)
        supports = [net.encode_support(normalise(image), mask, known) for image, mask, known in shots]
        size = (episode.query_image.shape[-2], episode.query_image.shape[-1])
        return net.decode(encoded, net.stack_shots(supports), size)

    def _kept_features(self, kept: KeptFeatures, episode: Episode) -> list[Any]:
        """Of the queries, then of each shot's supports."""
        images = [episode.query_image, *episode.support_images.unbind(1)]
        names = [episode.query_name, *zip(*episode.support_names, strict=True)]  # of fewer shots the first ones
        columns = zip(images, names, episode.versions.T.tolist(), strict=False)
        return [
            kept.get(list(zip(names, versions, strict=True)), partial(self._features, batch))
            for batch, names, versions in columns
        ]

    @torch.no_grad()
    def _features(self, images: Tensor, i: int) -> Any:
        return self.net.shared_features(normalise(images[i : i + 1]))
