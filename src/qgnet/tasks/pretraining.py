"""Stage 1: the prior extractor, by global-local contrastive learning on unlabelled images."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor

from datamodules.errors import InputError
from datamodules.unlabeled import ViewDataModule, Views
from qgnet.losses import contrastive_accuracy, global_local_loss
from qgnet.networks.contrast import MomentumPair
from qgnet.tasks.base import Task, make_encoder, normalise
from qgnet.weights import load_encoder_weights, save_prior_extractor

PRIOR_FILE = "prior_extractor.ckpt"


def sgd(params: Any) -> torch.optim.Optimizer:
    """MoCo's optimiser, its rate meant for 256 images per step."""
    return torch.optim.SGD(params, lr=0.03, momentum=0.9, weight_decay=1e-4)


class Descriptors(NamedTuple):
    """What a predict step gives.

    Attributes:
        names: B image names.
        descriptors: (B, C) float32 of length 1, the key encoder's pooled last stage.
    """

    names: list[str]
    descriptors: Tensor


class GlobalLocalPretraining(Task):
    """MoCo v2 over two global views and two region patches per image; the key encoder becomes the prior extractor.

    Args:
        encoder: a timm model.
        encoder_weights: where to start: ``random``, ``imagenet`` or a file.
        high_stage: the last stage, 4 (the paper) or 3.
        dim: dimensions of the embedding.
        queue_size: number of negatives (MoCo v2: 65,536); keep it below the number of images.
        momentum: of the key encoder's moving average.
        temperature: of the softmax.
        global_global: weight of the pairs of two global views; 0 takes the term out.
        local_global: weight of the pairs of a patch and a global view.
        local_local: weight of the pairs of two patches.
        optimizer: takes the query encoder's parameters.
    """

    net: MomentumPair

    def __init__(
        self,
        encoder: str = "resnet50",
        encoder_weights: str = "random",
        high_stage: int = 4,
        dim: int = 128,
        queue_size: int = 65536,
        momentum: float = 0.999,
        temperature: float = 0.2,
        global_global: float = 1.0,
        local_global: float = 1.0,
        local_local: float = 1.0,
        optimizer: OptimizerCallable = sgd,
    ) -> None:
        super().__init__(optimizer, lambda progress: 0.5 * (1 + math.cos(math.pi * progress)))
        self.save_hyperparameters(ignore=["optimizer"])
        self.encoder_weights = encoder_weights
        self.temperature = temperature
        self.term_weights = {"global_global": global_global, "local_global": local_global, "local_local": local_local}
        self.net = MomentumPair(make_encoder(encoder, high_stage, dilated=False), dim, queue_size, momentum)

    def load_starting_weights(self) -> None:
        """Both encoders from ``encoder_weights``."""
        digest = load_encoder_weights(self.net.query.encoder, self.encoder_weights, "model.encoder_weights")
        if digest:
            self.file_hashes["encoder_weights"] = digest
        self.net.copy_query_to_key()

    def setup(self, stage: str) -> None:
        """Refuse a DataModule without views."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, ViewDataModule):
            raise InputError(
                f"{type(self).__name__} trains on views of unlabelled images, but {type(data).__name__} gives none. "
                "Take UnlabeledDataModule."
            )

    def training_step(self, views: Views, batch_idx: int) -> Tensor:
        """The weighted sum of the three terms; the key encoder moves first, the queue last."""
        self.net.update_key()
        loss, keys = self._loss(views, "train")
        self.net.enqueue(keys)
        return loss

    def validation_step(self, views: Views, batch_idx: int) -> None:
        """The same terms on held-out images, without touching the queue."""
        self._loss(views, "val")

    def test_step(self, views: Views, batch_idx: int) -> None:
        """As in validation."""
        self._loss(views, "test")

    def _loss(self, views: Views, stage: str) -> tuple[Tensor, Tensor]:
        """Loss, and the (2B, dim) keys of the global views."""
        net, batch = self.net, len(views.name)
        negatives = net.queue.clone()  # enqueueing after the step must not touch what backward needs
        global_views = [normalise(v) for v in views.global_views.unbind(1)]
        patches = normalise(views.local_patches).transpose(0, 1).flatten(0, 1)
        query_globals = [net.query(v) for v in global_views]
        key_globals = [net.embed_keys(v) for v in global_views]
        query_locals = net.query(patches).split(batch)
        key_locals = net.embed_keys(patches).split(batch)
        terms = global_local_loss(query_globals, query_locals, key_globals, key_locals, negatives, self.temperature)
        loss = torch.stack([self.term_weights[kind] * term for kind, term in terms.items()]).sum()
        logged = {f"{stage}/{kind}": term for kind, term in terms.items()}
        logged[f"{stage}/loss"] = loss
        logged[f"{stage}/accuracy"] = contrastive_accuracy(query_globals[0], key_globals[1], negatives)
        logged[f"{stage}/fallback_share"] = views.fallback.float().mean()
        self.log_dict(logged, batch_size=batch, sync_dist=stage != "train")
        return loss, torch.cat(key_globals)

    def predict_step(self, views: Views, batch_idx: int) -> Descriptors:
        """A descriptor per image, from its first global view."""
        descriptors = self.net.key.descriptor(normalise(views.global_views[:, 0]))
        return Descriptors(views.name, F.normalize(descriptors.float(), dim=1))

    def on_train_end(self) -> None:
        """Leave the key encoder as ``prior_extractor.ckpt`` in the run's folder."""
        if self.trainer.is_global_zero and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            folder = Path(self.trainer.default_root_dir)
            folder.mkdir(parents=True, exist_ok=True)
            save_prior_extractor(folder / PRIOR_FILE, self.net.key.encoder)
