"""Stage 2: episodic training of QGNet over frozen encoders."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor

from datamodules.base import EpisodeDataModule
from datamodules.episodes import Episode
from datamodules.errors import InputError
from qgnet.losses import segmentation_loss, total_weight
from qgnet.metrics import EpisodeIoU, EpisodeScore
from qgnet.networks.encoders import Encoder
from qgnet.networks.folded import CALIBRATION_IMAGES, is_folded, unfold
from qgnet.networks.qgnet import PriorBank, QGNet, QGNetOutput
from qgnet.tasks.base import FILES, Task, make_encoder, normalise
from qgnet.weights import load_encoder_weights, load_prior_bank, sha256

POLY_POWER = 0.9
"""Of the poly schedule per iteration (released code)."""


HOW_TO_GET = {
    "prior_checkpoint": "Stage 2 stands on the prior extractor of stage 1: run `lightning fit --config "
    "lightning_configs/pretrain_imagenet.yaml` and give the prior_extractor.ckpt of its run's folder; or `random` for "
    "an untrained one.",
    "prior_bank": "`model.bank_size` asks for priors from a bank: write one with `qgnet prior-bank` and give its file.",
}


def sgd(params: Any) -> torch.optim.Optimizer:
    """The paper's optimiser; 0.025 is the base rate 0.0025 times the 10 that the released schedule multiplies in."""
    return torch.optim.SGD(params, lr=0.025, momentum=0.9, weight_decay=1e-4)


class Segmented(NamedTuple):
    """What a test or predict step gives to callbacks.

    Attributes:
        output: of the network.
        masks: B masks (h, w) uint8 in {0, 1} at the queries' own sizes.
    """

    output: QGNetOutput
    masks: list[Tensor]


class FewShotSegmentation(Task):
    """QGNet, trained on episodes of base classes, tested on novel ones.

    Args:
        encoder: E, a timm model (``resnet50s`` is the released deep-stem ResNet-50).
        encoder_weights: ``imagenet``, ``random``, or a file (state dict, or a prior extractor of stage 1).
        freeze_encoder: E is never trained (the paper's setting). False fine-tunes it.
        prior_encoder: P, a timm model.
        prior_checkpoint: the prior_extractor.ckpt of stage 1, or another file of weights, or ``random``.
        self_correspondence: False leaves the prior map out, and P with it.
        cross_correspondence: False leaves the guided map out of the FEM; it is still drawn and scored as a baseline.
        bank_size: null: the priors are P's feature of the query itself (the released code). A number: that many priors,
            the same for every query, from ``prior_bank``; P itself is then not needed.
        prior_bank: file written by ``qgnet prior-bank``.
        high_stage: last stage of both encoders, 4 (the paper) or 3.
        width: channels of the head.
        levels: the FEM's pyramid: sides above 1, ratios of the feature side up to 1.
        auxiliary_weight: of the FEM levels' mean cross-entropy.
        foreground_weight: of foreground pixels in both losses. 1 is the paper's; more makes up for a short training
            on few classes, after which novel classes are recognised, but with less confidence than base classes.
        optimizer: takes the trainable parameters.
    """

    net: QGNet

    def __init__(
        self,
        encoder: str = "resnet50s",
        encoder_weights: str = "imagenet",
        freeze_encoder: bool = True,
        prior_encoder: str = "resnet50",
        prior_checkpoint: str | None = None,
        self_correspondence: bool = True,
        cross_correspondence: bool = True,
        bank_size: int | None = None,
        prior_bank: str | None = None,
        high_stage: int = 4,
        width: int = 256,
        levels: Sequence[float] = (60, 30, 15, 8),
        auxiliary_weight: float = 1.0,
        foreground_weight: float = 1.0,
        optimizer: OptimizerCallable = sgd,
    ) -> None:
        super().__init__(optimizer, lambda progress: (1 - progress) ** POLY_POWER)
        self.save_hyperparameters(ignore=["optimizer"])
        self.encoder_weights = encoder_weights
        self.auxiliary_weight = auxiliary_weight
        self.foreground_weight = foreground_weight
        priors: Encoder | PriorBank | None = None
        if self_correspondence:
            priors = make_encoder(prior_encoder, high_stage)
            priors.freeze()
            if bank_size is not None:
                priors = PriorBank(bank_size, priors.high_channels)
        self.net = QGNet(make_encoder(encoder, high_stage), priors, width, levels, cross_correspondence)
        if freeze_encoder:
            self.net.encoder.freeze()
        self.files = {"prior_checkpoint": prior_checkpoint, "prior_bank": prior_bank}
        self.scores: dict[str, EpisodeScore] = {}

    def load_starting_weights(self) -> None:
        """E from ``encoder_weights``, the priors from their file; keeps the sha256 of the files."""
        net, digests = self.net, {}
        digests["encoder_weights"] = load_encoder_weights(net.encoder, self.encoder_weights, "model.encoder_weights")
        if digests["encoder_weights"] and not net.encoder.frozen and is_folded(net.encoder) and self.trainer.training:
            episodes = self.trainer.datamodule.data["train"]  # type: ignore[attr-defined]
            images = [episodes[i].query_image for i in range(CALIBRATION_IMAGES)]
            unfold(net.encoder, normalise(torch.stack(images).to(self.device)))
        if net.prior_encoder is not None:
            file = self._prior_file("prior_checkpoint")
            digests["prior_checkpoint"] = load_encoder_weights(net.prior_encoder, file, "model.prior_checkpoint")
        if net.prior_bank is not None:
            digests["prior_bank"] = load_prior_bank(net.prior_bank, self._prior_file("prior_bank"), "model.prior_bank")
        self.file_hashes |= {setting: digest for setting, digest in digests.items() if digest}

    def _prior_file(self, setting: str) -> str:
        file = self.files[setting]
        if file is None:
            raise InputError(f"`model.{setting}` is not set. {HOW_TO_GET[setting]}")
        return file

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint trained on other priors than those that the settings name."""
        super().on_load_checkpoint(checkpoint)
        for setting, file in self.files.items():
            recorded = checkpoint.get(FILES, {}).get(setting)
            if recorded is None or file is None or not Path(file).is_file():
                continue
            found = sha256(file)
            if found != recorded:
                raise InputError(
                    f"`model.{setting}` is {file} (sha256 {found[:12]}…), but this checkpoint was trained on one with "
                    f"sha256 {recorded[:12]}…. Give that file, or leave `model.{setting}` null: the checkpoint holds "
                    "its own copy."
                )

    def setup(self, stage: str) -> None:
        """Refuse a DataModule without episodes; make the metric of its novel classes."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, EpisodeDataModule):
            raise InputError(
                f"{type(self).__name__} trains on episodes, but {type(data).__name__} has none. "
                "Take an episodic DataModule such as Pascal5iDataModule."
            )
        self.class_names = data.class_names
        self.metric = EpisodeIoU(data.novel_classes)
        super().setup(stage)

    def forward(self, episode: Episode) -> QGNetOutput:
        """The network on a batch of episodes."""
        return self.net(normalise(episode.query_image), normalise(episode.support_images), episode.support_masks)

    def training_step(self, episode: Episode, batch_idx: int) -> Tensor:
        """Main and auxiliary loss of a batch."""
        mask = episode.query_mask
        total = total_weight(mask, self.foreground_weight)
        if self.trainer.world_size > 1:
            total = self.trainer.strategy.reduce(total, reduce_op="mean")
        main, auxiliary = segmentation_loss(self(episode), mask, self.foreground_weight, total)
        loss = main + self.auxiliary_weight * auxiliary
        losses = {"train/loss": loss, "train/main_loss": main, "train/auxiliary_loss": auxiliary}
        self.log_dict(losses, batch_size=len(episode.class_id), sync_dist=True)
        return loss

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
        counted = zip(segmented.masks, episode.original_mask, episode.class_id.tolist(), strict=True)
        for prediction, target, class_id in counted:
            self.metric.update(prediction, target, class_id)
        return segmented

    def test_step(self, episode: Episode, batch_idx: int) -> Segmented:  # type: ignore[override]
        """As in validation."""
        return self.validation_step(episode, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/miou``, ``val/fb_iou`` and each class's IoU."""
        self._log_score("val")

    def on_test_epoch_end(self) -> None:
        """Log ``test/miou``, ``test/fb_iou`` and each class's IoU."""
        self._log_score("test")

    def _log_score(self, stage: str) -> None:
        score = self.metric.compute()
        self.metric.reset()
        self.scores[stage] = score
        self.log_dict({f"{stage}/miou": score.miou, f"{stage}/fb_iou": score.fb_iou}, prog_bar=True)
        for class_id, iou in zip(self.metric.class_ids, score.class_iou, strict=True):
            self.log(f"{stage}/iou/{self.class_names[class_id]}", iou)


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
