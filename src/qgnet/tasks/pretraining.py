"""Stage 1: train the prior extractor by global-local contrastive learning on unlabelled images."""

import math
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from pytorch_lightning.cli import OptimizerCallable
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from datamodules.unlabeled import ViewDataModule
from datamodules.views.dataset import Views
from datamodules.views.object_images import ObjectImages
from qgnet.common.errors import InputError
from qgnet.common.settings import Count, Range, Share
from qgnet.common.terminal import say
from qgnet.losses import PAIR_KINDS, ViewEmbeddings, contrastive_accuracy, global_local_loss, view_pairs
from qgnet.metrics import MapQuality, spread
from qgnet.networks.batch_norm_folding import CALIBRATION_IMAGES, is_folded, recalibrate_batch_norm
from qgnet.networks.contrast import MomentumPair
from qgnet.networks.correspondence import untrained_prior_map
from qgnet.networks.encoders import Encoder
from qgnet.networks.layers import resize
from qgnet.tasks.base import HighStage, Task, Weight, ends_step, make_encoder, normalise
from qgnet.tasks.schedules import Schedule
from qgnet.weights.store import load_encoder_weights, save_prior_extractor

PRIOR_FILE = "prior_extractor.ckpt"
COLLAPSED = 0.05
"""Spread of the embeddings below which they count as collapsed to one point."""


def sgd(params: Any) -> torch.optim.Optimizer:
    """MoCo's optimiser; its rate is for 256 images per step."""
    return torch.optim.SGD(params, lr=0.03, momentum=0.9, weight_decay=1e-4)


class Descriptors(NamedTuple):
    """The result of a predict step.

    Attributes:
        names: B image names.
        descriptors: (B, C) float32 of length 1, the key encoder's pooled last stage.
    """

    names: list[str]
    descriptors: Tensor


class PriorMaps:
    """Prior maps without stage 2: an encoder's weights at the output stride of P in stage 2.

    Args:
        encoder: the key encoder.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = make_encoder(encoder.name, encoder.high_stage)
        self.encoder.freeze()
        self.follow(encoder)

    def follow(self, encoder: Encoder) -> None:
        """Copy the current weights of the key encoder, and move to its device."""
        self.encoder.to(next(encoder.parameters()).device)
        self.encoder.load_state_dict(encoder.state_dict())
        self.encoder.mean, self.encoder.std = encoder.mean, encoder.std

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 → (B, 1, S, S) float32 in [0, 1]."""
        features = self.encoder.encode_high(normalise(images))
        return resize(untrained_prior_map(features), (images.shape[2], images.shape[3]))


class GlobalLocalPretraining(Task):
    """MoCo v2 over two global views and two region patches per image; the key encoder becomes the prior extractor.

    Args:
        encoder: a timm model.
        encoder_weights: starting weights: ``random``, ``imagenet`` or a file.
        high_stage: the last stage, 4 (the paper) or 3.
        dim: dimensions of the embedding.
        queue_size: number of negatives (MoCo v2: 65,536); keep it below the number of images.
        momentum: momentum of the key encoder's moving average.
        temperature: temperature of the softmax.
        global_global: weight of the pairs of two global views; 0 removes the term.
        local_global: weight of the pairs of a patch and a global view; 0 removes the term.
        local_local: weight of the pairs of two patches; 0 removes the term. Embeddings of removed terms are not
            computed.
        patch_queue: take the negatives of ``local_local`` from a queue of patch keys. Without it, they are keys of
            global views, as in the other terms, and differ from patches simply by showing whole images.
        schedule: schedule of the learning rate, applied at each step: ``cosine`` to 0 (MoCo v2), ``step``: a tenth at
            60 % and again at 80 % of the training (MoCo v1), ``poly`` or ``constant``; or the class of a torch
            scheduler.
        optimizer: optimiser of the query encoder's parameters.
    """

    net: MomentumPair
    prior_maps: PriorMaps | None = None
    """Created for the first validation."""

    def __init__(
        self,
        encoder: str = "resnet50",
        encoder_weights: str = "random",
        high_stage: HighStage = 4,
        dim: Count = 128,
        queue_size: Count = 65536,
        momentum: Share = 0.999,
        temperature: Annotated[float, Range(above=0)] = 0.2,
        global_global: Weight = 1.0,
        local_global: Weight = 1.0,
        local_local: Weight = 1.0,
        patch_queue: bool = False,
        schedule: Schedule = "cosine",
        optimizer: OptimizerCallable = sgd,
    ) -> None:
        super().__init__(optimizer, schedule)
        self.save_hyperparameters(ignore=["optimizer", "schedule"])
        self.encoder_weights = encoder_weights
        self.temperature = temperature
        self.term_weights = dict(zip(PAIR_KINDS, (global_global, local_global, local_local), strict=True))
        self.pending: list[Tensor] = []
        """Keys of this optimiser step that are not in the queue yet, (2, B, dim) each; (4, B, dim) with patch keys."""
        self.map_quality = MapQuality()
        pair = make_encoder(encoder, high_stage, dilated=False)
        self.net = MomentumPair(pair, dim, queue_size, momentum, patch_queue)

    def load_starting_weights(self) -> None:
        """Load both encoders from ``encoder_weights``; recalibrate folded batch norms on the first training images."""
        encoder = self.net.query.encoder
        digest = load_encoder_weights(encoder, self.encoder_weights, "model.encoder_weights")
        if digest:
            self.file_hashes["encoder_weights"] = digest
        if digest and is_folded(encoder) and self.trainer.training:
            views = self.data.data["train"]
            images = [views[i].global_views[0] for i in range(min(CALIBRATION_IMAGES, len(views)))]
            recalibrate_batch_norm(encoder, normalise(torch.stack(images).to(self.device)))
            say(f"{self.encoder_weights}: batch norms were folded; recalibrated on {len(images)} images.")
        self.net.copy_query_to_key()

    def unused_settings(self) -> dict[str, list[str]]:
        """The queue of patch keys if no term takes its negatives from it."""
        return {} if self.term_weights["local_local"] else {"model.local_local is 0": ["patch_queue"]}

    def setup(self, stage: str) -> None:
        """Raise InputError for a DataModule without views, and for weights of the terms that are all 0."""
        if not any(self.term_weights.values()):
            raise InputError(
                f"The weights of the terms are {self.term_weights}; expected at least one above 0. Set "
                "model.global_global, model.local_global or model.local_local."
            )
        self.check_data(self.data)
        super().setup(stage)

    def check_data(self, data: Any) -> None:
        """Refuse a DataModule without views, or whose prior maps are of a size that the encoder does not take."""
        if not isinstance(data, ViewDataModule):
            raise InputError(
                f"{type(self).__name__} trains on views of unlabelled images, but {type(data).__name__} gives "
                "none. Take UnlabeledDataModule."
            )
        self.net.key.encoder.check_side(data.map_size, "data.map_size")

    def on_train_start(self) -> None:
        """Warn if the queue is longer than the list of training images."""
        super().on_train_start()
        images = len(self.data.data["train"])
        if len(self.net.queue) > images:
            rank_zero_warn(
                f"model.queue_size is {len(self.net.queue)}, but there are {images} training images: an image's own "
                "older keys are among its negatives. Take a smaller queue."
            )

    def training_step(self, views: Views, batch_idx: int) -> Tensor:
        """The weighted sum of the terms. Each optimiser step first updates the key encoder, and last the queue."""
        if not self.pending:
            self.net.update_key()
        loss, keys = self._loss(views, "train")
        self.pending.append(self._of_all_processes(keys))
        if ends_step(self.trainer, batch_idx):
            of_globals, of_patches = torch.cat(self.pending, dim=1).tensor_split([2])
            self.net.enqueue(of_globals.flatten(0, 1), of_patches.flatten(0, 1))
            self.pending = []
        return loss

    def _of_all_processes(self, keys: Tensor) -> Tensor:
        """Keys (V, B, D) of this process → (V, B · processes, D) of all, in the order of the images' running numbers.

        Process r of R gets the images r, r + R, …
        """
        if self.trainer.world_size == 1:
            return keys
        gathered = self.all_gather(keys)
        assert isinstance(gathered, Tensor)
        return gathered.permute(1, 2, 0, 3).flatten(1, 2)

    def on_validation_epoch_start(self) -> None:
        """Use the current key encoder for the prior maps."""
        self.map_quality.reset()
        self.prior_maps = self.prior_maps or PriorMaps(self.net.key.encoder)
        self.prior_maps.follow(self.net.key.encoder)

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: Views | ObjectImages, batch_idx: int, dataloader_idx: int = 0) -> Tensor | None:
        """Compute the terms on held-out views without changing the queue; return prior maps (B, 1, S, S) of images."""
        if isinstance(batch, Views):
            loss, _ = self._loss(batch, self.evaluation)
            self.check_finite([f"a batch with {batch.name[0]}"], loss[None])
            return None
        assert self.prior_maps is not None
        maps = self.prior_maps(batch.image)
        self.check_finite(batch.name, maps)
        for prior_map, objects in zip(maps[:, 0], batch.objects, strict=True):
            self.map_quality.update(prior_map, objects)
        return maps

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Log the quality of the prior maps; warn if the embeddings have collapsed."""
        self.on_test_epoch_end()
        spread = float(self.trainer.callback_metrics.get("val/spread", 1.0))
        per_batch = min(self.data.batch_size, len(self.data.data["val"]) // self.trainer.world_size)
        if spread < COLLAPSED and per_batch > 1 and not self.trainer.sanity_checking:  # one embedding has no spread
            rank_zero_warn(
                f"The embeddings have collapsed: their spread is {spread:.3f} (1: all over the sphere, 0: one point). "
                "Lower the learning rate or the momentum of the key encoder, or enlarge the queue."
            )

    def on_test_epoch_end(self) -> None:
        """Log the quality of the prior maps."""
        self.require_finite()
        score = self.map_quality.compute()
        if not math.isnan(score.average_precision):
            stage = self.evaluation
            self.log_dict({f"{stage}/prior_ap": score.average_precision, f"{stage}/prior_iou": score.iou})

    def on_predict_epoch_end(self) -> None:
        """Raise InputError if a descriptor is not finite."""
        self.require_finite()

    def _loss(self, views: Views, stage: str) -> tuple[Tensor, Tensor]:
        """The loss, and the keys of the global views (2, B, dim); (4, B, dim) with patch keys if they have a queue."""
        net, batch = self.net, len(views.name)
        negatives = net.queue.clone()  # backward needs it unchanged by the enqueueing after the step
        patch_negatives = None if net.patch_queue is None else net.patch_queue.clone()
        global_views = [normalise(v) for v in views.global_views.unbind(1)]
        patches = normalise(views.local_patches).transpose(0, 1).flatten(0, 1)
        on = [kind for kind, weight in self.term_weights.items() if weight > 0]
        key_globals = [net.embed_keys(v) for v in global_views]
        query_globals = [net.query(v) for v in global_views] if "global_global" in on else []
        query_locals = net.query(patches).split(batch) if on != ["global_global"] else ()
        needs_keys = "local_local" in on or net.patch_queue is not None
        key_locals = net.embed_keys(patches).split(batch) if needs_keys else ()
        embedded = ViewEmbeddings(query_globals, query_locals, key_globals, key_locals)
        terms = global_local_loss(embedded, negatives, self.temperature, on, patch_negatives)
        loss = torch.stack([self.term_weights[kind] * term for kind, term in terms.items()]).sum()
        logged = {**terms, "loss": loss}
        for kind in on:
            query, key = view_pairs(kind, embedded)[0]
            others = patch_negatives if kind == "local_local" and patch_negatives is not None else negatives
            logged[f"accuracy/{kind}"] = contrastive_accuracy(query, key, others)
        logged["spread"] = spread(view_pairs(on[0], embedded)[0][0])
        logged["fallback_share"] = views.fallback.float().mean()
        if stage == "train":  # on the device of the others, because they are reduced together
            logged["queue_age"] = torch.full((), self._queue_age(len(key_globals) * batch), device=loss.device)
        self.log_means(stage, logged, batch)
        return loss, torch.stack([*key_globals, *key_locals] if net.patch_queue is not None else key_globals)

    def _queue_age(self, keys: int) -> float:
        """Steps since the oldest key entered the queue, for this number of keys per process and batch."""
        keys_of_a_step = keys * self.trainer.world_size * self.trainer.accumulate_grad_batches
        return float(min(self.global_step, math.ceil(len(self.net.queue) / keys_of_a_step)))

    def predict_step(self, views: Views, batch_idx: int) -> Descriptors:
        """Compute a descriptor per image from its first global view."""
        descriptors = self.net.key.descriptor(normalise(views.global_views[:, 0]))
        self.check_finite(views.name, descriptors)
        return Descriptors(views.name, F.normalize(descriptors.float(), dim=1))

    def on_train_end(self) -> None:
        """Save the key encoder as ``prior_extractor.ckpt`` in the run's folder."""
        if self.trainer.is_global_zero and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            folder = Path(self.trainer.default_root_dir)
            folder.mkdir(parents=True, exist_ok=True)
            save_prior_extractor(folder / PRIOR_FILE, self.net.key.encoder)
