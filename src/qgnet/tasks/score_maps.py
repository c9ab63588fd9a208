"""Stage 2 for few data: a head of score maps, trained on episodes over a frozen encoder."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pytorch_lightning.cli import OptimizerCallable

from qgnet.common.settings import NOT_EMPTY, Count
from qgnet.networks.score_map_network import ScoreMapNetwork
from qgnet.tasks.base import HighStage, Weight, as_setting_error
from qgnet.tasks.episodic import REUSE_MB
from qgnet.tasks.over_encoder import TaskOverEncoder, frozen_encoder
from qgnet.tasks.schedules import Schedule


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
        fine_width: Count = 32,
        dice_weight: Weight = 1.0,
        foreground_weight: Weight = 1.0,
        optimizer: OptimizerCallable = adamw,
        schedule: Schedule = "cosine",
        reuse: bool = True,
        reuse_mb: int = REUSE_MB,
    ) -> None:
        super().__init__(encoder_weights, reuse, reuse_mb, optimizer, schedule)
        self.save_hyperparameters(ignore=["optimizer", "schedule"])
        self.dice_weight = dice_weight
        self.foreground_weight = foreground_weight
        settings = {"width": width, "dilations": dilations, "edge_width": edge_width, "fine_width": fine_width}
        encoder_net = frozen_encoder(encoder, high_stage, dilated)
        with as_setting_error():
            self.net = ScoreMapNetwork(encoder_net, **settings)
