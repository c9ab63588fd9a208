"""Episodes of any data set for the Trainer."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch.utils.data import DataLoader

from datamodules.base import BaseDataModule
from datamodules.datasets.protocols import Protocol, default_seed, warn_of_useless_choices
from datamodules.datasets.spec import DatasetSpec, Split
from datamodules.episodes.dataset import EpisodeDataset
from datamodules.episodes.episode import Episode, collate
from datamodules.episodes.manifest import read_manifest
from datamodules.episodes.plan import limited, shares, visiting_order
from datamodules.files.index import MaskIndex
from datamodules.files.sources import LabelledImages
from qgnet.common.errors import InputError
from qgnet.common.settings import Count, Natural, Scale, Share, Side
from qgnet.common.terminal import warn

ON_HOST = ("support_masks", "class_id", "present", "control_of", "versions")
"""Fields of an Episode that stay on the host."""


class EpisodeDataModule(BaseDataModule):
    """Episodes of one fold: base classes for training, novel classes for validation and test.

    A warning names protocol choices that have no effect on the data.

    Args:
        dataset: the data set of the images and classes; a subclass sets its own.
        fold: which classes are novel, 0 … 3; null: none, to train on all classes. Nothing is validated then.
        shots: supports per episode, K.
        protocol: a name and single choices that replace its own, e.g. ``--data.protocol.name hsnet``.
        seed: of the episodes and their augmentation; null: the protocol's first.
        episodes: number of validation and of test episodes; null: the protocol's.
        batch_size: episodes per process and step.
        num_workers: loader processes; null: one per core, but not more than 4.
        image_size: side of the square that the network sees, in pixels; null: the data set's default.
        min_class_area: pixels a class must cover in an image to count there; null: the data set's default.
        scale: range of the random scaling in training; null: the data set's default.
        train_episodes: episodes per training epoch; null: one per training image.
        episode_file: a manifest of test episodes written by ``qgnet episodes``; null draws them.
        negative: share of episodes, 0 … 1, whose supports show a class that is not in the query: the right answer is an
            empty mask. In training they replace others; in a test they are added as controls.
        inverted: share of the other training episodes, 0 … 1, whose target is everything but the object.
        versions: fixed augmentations of each training image and class, whose features a task may keep; null: each image
            is augmented anew each time.
    """

    more = ("--data.episodes", "--data.train_episodes")

    def __init__(
        self,
        dataset: DatasetSpec | None = None,
        fold: Natural | None = 0,
        shots: Count = 1,
        protocol: Protocol = Protocol(),  # noqa: B008  (frozen)
        seed: Natural | None = None,
        episodes: Count | None = None,
        batch_size: Count = 4,
        num_workers: Natural | None = None,
        image_size: Side | None = None,
        min_class_area: Count | None = None,
        scale: Scale | None = None,
        train_episodes: Count | None = None,
        episode_file: str | None = None,
        negative: Share = 0.0,
        inverted: Share = 0.0,
        versions: Count | None = None,
    ) -> None:
        if not isinstance(dataset, DatasetSpec):
            raise InputError(
                f"data.dataset is {dataset!r}; expected a DatasetSpec, such as Pascal5i() or yours. Name one, or give "
                "it in a subclass: super().__init__(dataset, …)."
            )
        warn_of_useless_choices(protocol, dataset.unused_choices, type(self).__name__)
        if episode_file and episodes is not None:
            warn(f"data.episodes {episodes} has no effect, because data.episode_file lists the episodes.")
        self.protocol = dataset.adapt_protocol(protocol).resolved()
        super().__init__(batch_size, num_workers, default_seed(self.protocol) if seed is None else seed)
        self.dataset = dataset.with_protocol(self.protocol, self.seed)
        self.fold = fold
        self.shots = shots
        self.episodes = dataset.test_episodes(self.protocol) if episodes is None and not episode_file else episodes
        self.image_size = dataset.image_size if image_size is None else image_size
        self.min_class_area = dataset.min_class_area if min_class_area is None else min_class_area
        self.scale = dataset.scale if scale is None else scale
        self.train_episodes = train_episodes
        self.episode_file = episode_file
        self.negative = negative
        self.inverted = inverted
        self.versions = versions
        self.data: dict[str, EpisodeDataset] = {}
        self._indexes: dict[str, MaskIndex] = {}

    @property
    def dataset_name(self) -> str:
        """Name of the data in results and checkpoints: that of this class, or of the data set for the base class."""
        return type(self.dataset if type(self) is EpisodeDataModule else self).__name__

    @property
    def class_names(self) -> Mapping[int, str]:
        """Class number → name, for every class of the data set."""
        return self.dataset.class_names

    @property
    def folds(self) -> Sequence[Sequence[int]]:
        """The novel classes of each fold."""
        return self.dataset.folds

    @property
    def novel_classes(self) -> list[int]:
        """Class numbers of this fold; they are not labelled in training."""
        return self.dataset.novel_classes(self.fold)

    @property
    def base_classes(self) -> list[int]:
        """Class numbers of the other folds."""
        return self.dataset.base_classes(self.fold)

    def images(self, split: Split) -> LabelledImages:
        """The images and masks of a split."""
        return self.dataset.images(split, self.fold)

    def test_images(self) -> dict[str, Any]:
        """Fingerprint of the test images and masks, the same in every fold and with every seed.

        It depends on names and class areas, not on paths.
        """
        if not self.dataset.fixed_images:
            return dict(self.dataset.image_choices)
        data = self.data["val"]
        areas = [sorted(areas.items()) for areas in data.areas]
        digest = hashlib.sha256(json.dumps([list(data.source.names), areas]).encode()).hexdigest()
        return {**self.dataset.image_choices, "number": len(areas), "sha256": digest}

    def prepare_data(self) -> None:
        """Index the masks in one process of each machine; the others read the stored index."""
        self.dataset.check_fold(self.fold)
        training = self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING
        needed: dict[Split, bool] = {"train": training, "val": self.fold is not None}
        for split in (split for split, used in needed.items() if used):
            if split not in self.data and self.dataset.index_file(split) is not None:
                self._indexes[split] = self.dataset.index(self.images(split), split)

    def setup(self, stage: str) -> None:
        """Build the data of this stage; InputError for a fold or data that cannot be used."""
        if self.fold is None and stage != "fit":
            raise InputError(
                "data.fold is null: all classes are used for training, and none is left to test. Give a fold, such as "
                "--data.fold 0."
            )
        if stage == "fit" and "train" not in self.data:
            self.data["train"] = self._episodes("train", self.train_episodes, self.negative)
        if self.fold is None:
            if self.trainer is not None:
                self.trainer.limit_val_batches = 0  # there is nothing to validate on
            return
        if "val" not in self.data:
            self.data["val"] = self._episodes("val", self.episodes, 0.0 if stage == "predict" else self.negative)
            if self.episode_file:
                self.data["val"].use_manifest(read_manifest(Path(self.episode_file)))
        if stage == "fit":
            self._warn_of_shared()

    def _episodes(self, split: Split, episodes: int | None, negative: float) -> EpisodeDataset:
        return EpisodeDataset(
            self.dataset,
            split,
            fold=self.fold,
            shots=self.shots,
            protocol=self.protocol,
            episodes=episodes,
            seed=self.seed,
            image_size=self.image_size,
            scale=self.scale,
            min_class_area=self.min_class_area,
            negative=negative,
            inverted=self.inverted,
            versions=self.versions,
            index=self._indexes.pop(split, None),
        )

    def _warn_of_shared(self) -> None:
        """Warn if images are used for training and for the test."""
        train, test = ({data.source.names[i] for i in data.queries} for data in (self.data["train"], self.data["val"]))
        shared = sorted(train & test)
        if shared:
            warn(
                f"{len(shared)} image(s) are used for training and for the test, e.g. {shared[0]}: the scores of their "
                "classes are not those of new images. Give lists without a common image."
            )

    def train_dataloader(self) -> DataLoader[Episode]:
        """Episodes of base classes, new ones in each epoch."""
        return self.loader(self.data["train"], training=True, collate_fn=collate)

    def val_dataloader(self) -> DataLoader[Episode]:
        """The first episodes of the test, the same in each epoch."""
        return self._evaluation(self.trainer.limit_val_batches if self.trainer else None)

    def test_dataloader(self) -> DataLoader[Episode]:
        """Episodes of novel classes."""
        return self._evaluation(self.trainer.limit_test_batches if self.trainer else None)

    def predict_dataloader(self) -> DataLoader[Episode]:
        """As the test."""
        return self._evaluation(self.trainer.limit_predict_batches if self.trainer else None)

    def _evaluation(self, limit: int | float | None) -> DataLoader[Episode]:
        """Each episode once, grouped by query. A limit of batches still takes the first episodes."""
        data = self.data["val"]
        batches = -(-len(data) // (self.batch_size * self.ranks))
        first = min(len(data), limited(limit, batches) * self.batch_size * self.ranks)
        order = visiting_order([data.query_of(i) for i in range(len(data))], first)
        visits = [order[i] for part in shares(len(data), first, self.rank, self.ranks) for i in part]
        return self.loader(data, training=False, visits=visits, collate_fn=collate)

    def transfer_batch_to_device(self, batch: Episode, device: torch.device, dataloader_idx: int) -> Episode:
        """Move an episode to the device, except fields that are read on the host: that would wait for the GPU."""
        host = {name: getattr(batch, name) for name in ON_HOST}
        without: dict[str, Any] = dict.fromkeys(ON_HOST)
        moved: Episode = super().transfer_batch_to_device(batch._replace(**without), device, dataloader_idx)
        return moved._replace(**host)
