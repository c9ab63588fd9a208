"""Support matching without training: a baseline over any frozen encoder."""

from typing import Literal

from qgnet.common.errors import InputError
from qgnet.networks.matching import MatchingNetwork
from qgnet.tasks.base import HighStage
from qgnet.tasks.episodic import REUSE_MB
from qgnet.tasks.over_encoder import TaskOverEncoder, frozen_encoder


class SupportMatching(TaskOverEncoder):
    """Matches the support to the query on a frozen encoder's features. There is only a test, since nothing is trained.

    Args:
        encoder: a timm model.
        encoder_weights: ``imagenet``, ``random``, or a file (state dict, or a prior extractor of stage 1).
        high_stage: the encoder's last stage, 4 or 3. Its features and those of the stage before are compared.
        method: ``nearest`` (nearest foreground and background positions), ``prototype`` (means of both), ``ridge``
            (ridge regression on all positions), or ``sum`` (ridge and nearest). The test scores all four; this one is
            drawn and listed in the report.
        dilated: whether the encoder's last stages are dilated to stride 8, as in QGNet. False leaves them as they were
            trained.
        reuse: the test encodes each image once and caches its features. False encodes it again for each episode; the
            result is the same.
        reuse_mb: size of this cache in MB, per process and on its device.
    """

    net: MatchingNetwork

    def __init__(
        self,
        encoder: str = "resnet50",
        encoder_weights: str = "imagenet",
        high_stage: HighStage = 4,
        method: Literal["nearest", "prototype", "ridge", "sum"] = "sum",
        dilated: bool = True,
        reuse: bool = True,
        reuse_mb: int = REUSE_MB,
    ) -> None:
        super().__init__(encoder_weights, reuse, reuse_mb)
        self.save_hyperparameters()
        self.method = f"matching by {method}"
        self.net = MatchingNetwork(frozen_encoder(encoder, high_stage, dilated), method)

    def setup(self, stage: str) -> None:
        """Set up as every task over episodes; InputError for a training."""
        if stage == "fit":
            raise InputError("Support matching has nothing to train. Use `lightning test` with this configuration.")
        super().setup(stage)
