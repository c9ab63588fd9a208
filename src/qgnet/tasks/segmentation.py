"""Stage 2: episodic training of QGNet over frozen encoders."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pytorch_lightning.cli import OptimizerCallable

from qgnet.common.errors import InputError
from qgnet.common.settings import NOT_EMPTY, Count, each_number
from qgnet.networks.batch_norm_folding import CALIBRATION_IMAGES, is_folded, recalibrate_batch_norm
from qgnet.networks.encoders import Encoder
from qgnet.networks.qgnet import PriorBank, QGNet, rename_old_weights
from qgnet.networks.synchronised import synchronise_dropout
from qgnet.tasks.base import HighStage, Weight, as_setting_error, make_encoder, normalise
from qgnet.tasks.episodic import REUSE_MB
from qgnet.tasks.over_encoder import TaskOverEncoder, frozen_encoder
from qgnet.tasks.schedules import Schedule
from qgnet.weights.store import load_encoder_weights, load_prior_bank

HOW_TO_GET = {
    "prior_weights": "Stage 2 stands on the prior extractor of stage 1: run `lightning fit --config "
    "pretrain_imagenet.yaml` and give the prior_extractor.ckpt of its run's folder; or `random` for "
    "an untrained one.",
    "prior_bank": "`model.bank_size` asks for priors from a bank: write one with `qgnet prior-bank` and give its file.",
}


def sgd(params: Any) -> torch.optim.Optimizer:
    """The paper's optimiser; 0.025 is the base rate 0.0025 times the factor 10 of the released schedule."""
    return torch.optim.SGD(params, lr=0.025, momentum=0.9, weight_decay=1e-4)


LEVELS = each_number(
    "whole sides above 1, or ratios above 0 and up to 1", lambda level: 0 < level <= 1 or (level > 1 and level % 1 == 0)
)
"""Rule for the levels of the FEM's pyramid."""


class FewShotSegmentation(TaskOverEncoder):
    """QGNet, trained on episodes of base classes, tested on novel ones.

    Args:
        encoder: E, a timm model (``resnet50s`` is the released deep-stem ResNet-50).
        encoder_weights: ``imagenet``, ``random``, or a file (state dict, or a prior extractor of stage 1).
        freeze_encoder: E is never trained (the paper's setting). False fine-tunes it.
        prior_encoder: P, a timm model.
        prior_weights: the prior_extractor.ckpt of stage 1, another file of weights, or ``random``.
        self_correspondence: False removes the prior map and P. The network is then PFENet, also in results.
        cross_correspondence: False removes the guided map from the FEM; it is still drawn and scored as a baseline.
        bank_size: null takes P's feature of the query itself as the priors (the released code). A number takes that
            many priors from ``prior_bank``, the same for every query; P is then not needed.
        prior_bank: file written by ``qgnet prior-bank``.
        high_stage: last stage of both encoders, 4 (the paper) or 3.
        dilated: the last stages of the encoders keep stride 8 by dilation (the paper). False keeps their trained
            strides 16 and 32, which is better for encoders that dilation harms, such as EfficientNets.
        width: channels of the head.
        levels: levels of the FEM's pyramid: sides above 1, or ratios of the feature side up to 1.
        auxiliary_weight: weight of the mean cross-entropy of the FEM's levels.
        score_maps: training-free matching of the support, ``nearest``, ``prototype``, ``ridge`` or ``sum``, as
            additional region maps of the FEM. The paper has none.
        add_to_score_maps: True adds the FEM's logits to the score maps, each with a learnt weight. The paper's is
            False.
        foreground_weight: weight of foreground pixels in both losses. The paper's is 1. A larger weight helps after a
            short training on few classes, where novel classes get less confidence than base classes.
        optimizer: optimiser of the trainable parameters.
        schedule: schedule of the learning rate, applied at each step: ``poly`` (the released code), ``cosine``,
            ``step`` (a tenth at 60 % and again at 80 % of the training) or ``constant``; or the class of a torch
            scheduler.
        reuse: a validation, test or prediction encodes each image once and caches its features. False encodes it again
            for each episode; the result is the same.
        reuse_mb: size of this cache in MB, per process and on its device; the least recently used is evicted first.
    """

    net: QGNet
    method = "QGNet"

    def __init__(
        self,
        encoder: str = "resnet50s",
        encoder_weights: str = "imagenet",
        freeze_encoder: bool = True,
        prior_encoder: str = "resnet50",
        prior_weights: str | None = None,
        self_correspondence: bool = True,
        cross_correspondence: bool = True,
        bank_size: Count | None = None,
        prior_bank: str | None = None,
        high_stage: HighStage = 4,
        dilated: bool = True,
        width: Count = 256,
        levels: Annotated[Sequence[float], NOT_EMPTY, LEVELS] = (60, 30, 15, 8),
        score_maps: Sequence[str] = (),
        add_to_score_maps: bool = False,
        auxiliary_weight: Weight = 1.0,
        foreground_weight: Weight = 1.0,
        optimizer: OptimizerCallable = sgd,
        schedule: Schedule = "poly",
        reuse: bool = True,
        reuse_mb: int = REUSE_MB,
    ) -> None:
        super().__init__(encoder_weights, reuse, reuse_mb, optimizer, schedule)
        self.save_hyperparameters(ignore=["optimizer", "schedule"])
        if not self_correspondence and cross_correspondence and not score_maps:
            self.method = "PFENet"
        self.auxiliary_weight = auxiliary_weight
        self.foreground_weight = foreground_weight
        priors: Encoder | PriorBank | None = None
        if self_correspondence:
            priors = frozen_encoder(prior_encoder, high_stage, dilated)
            if bank_size is not None:
                priors = PriorBank(bank_size, priors.high_channels)
        encoder_net = make_encoder(encoder, high_stage, dilated)
        with as_setting_error():
            self.net = QGNet(encoder_net, priors, width, levels, cross_correspondence, score_maps, add_to_score_maps)
        if freeze_encoder:
            self.net.encoder.freeze()
        self.prior_files = {"prior_weights": prior_weights, "prior_bank": prior_bank}
        self.files |= self.prior_files

    def unused_settings(self) -> dict[str, list[str]]:
        """Also settings of priors that are not used."""
        size = self.net.prior_bank and len(self.net.prior_bank.vectors)
        if self.net.prior_bank is None and self.net.prior_encoder is None:
            reason, names = "model.self_correspondence is false", ["prior_encoder", "bank_size", *self.prior_files]
        elif size is None:
            reason, names = "model.bank_size is null", ["prior_bank"]
        else:
            reason, names = f"model.bank_size is {size}", ["prior_weights"]
        return {reason: names, **super().unused_settings()}

    def setup(self, stage: str) -> None:
        """Set up as every task over episodes; make dropout in several processes equal to that in one."""
        super().setup(stage)
        if stage == "fit" and self.trainer.world_size > 1:
            rank, processes = self.global_rank, self.trainer.world_size
            synchronise_dropout(self.net.reduce_support, rank, processes, self.data.shots)
            shared = ["reduce_query", "reduce_self", "enrichment"]
            shared += [] if self.net.prior_bank else ["reduce_priors"]  # all processes have the same bank
            for name in shared:
                if hasattr(self.net, name):  # two of them need self-correspondence
                    synchronise_dropout(getattr(self.net, name), rank, processes)

    def load_starting_weights(self) -> None:
        """Load E from ``encoder_weights`` and the priors from their file; record the sha256 of the files.

        Raises:
            InputError: if a file cannot be used, or a bank of priors is given without its size.
        """
        net = self.net
        if net.prior_encoder is not None and self.files["prior_bank"] is not None:
            raise InputError(
                f"`model.prior_bank` is {self.files['prior_bank']}, but `model.bank_size` is null, so P would be used "
                "instead. Set `model.bank_size` to the number of its priors, or leave `model.prior_bank` out."
            )
        super().load_starting_weights()
        from_file = "encoder_weights" in self.file_hashes
        if from_file and not net.encoder.frozen and is_folded(net.encoder) and self.trainer.training:
            episodes = self.data.data["train"]
            images = [episodes[i].query_image for i in range(CALIBRATION_IMAGES)]
            recalibrate_batch_norm(net.encoder, normalise(torch.stack(images).to(self.device)))
        if net.prior_encoder is not None:
            file = self._prior_file("prior_weights")
            digest = load_encoder_weights(net.prior_encoder, file, "model.prior_weights")
            self.file_hashes |= {"prior_weights": digest} if digest else {}
        if net.prior_bank is not None:
            digest = load_prior_bank(net.prior_bank, self._prior_file("prior_bank"), "model.prior_bank")
            self.file_hashes["prior_bank"] = digest

    def _prior_file(self, setting: str) -> str:
        file = self.files[setting]
        if file is None:
            raise InputError(f"`model.{setting}` is not set. {HOW_TO_GET[setting]}")
        return file

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore as over any encoder; weights of earlier versions get their current names first."""
        rename_old_weights(self.net, checkpoint["state_dict"], "net.")
        super().on_load_checkpoint(checkpoint)
