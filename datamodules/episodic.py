"""What all episodic data sets share."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch.utils.data import DataLoader

from datamodules.base import BaseDataModule
from datamodules.episodes.classes import check_split
from datamodules.episodes.dataset import EpisodeDataset
from datamodules.episodes.episode import Episode, collate
from datamodules.episodes.manifest import read_manifest
from datamodules.episodes.plan import limited, shares, visiting_order
from datamodules.episodes.protocols import Protocol, default_seed, warn_of_useless_choices
from datamodules.files.index import MaskIndex
from datamodules.files.sources import LabelledImages
from qgnet.common.errors import InputError
from qgnet.common.settings import INCREASING, Count, Natural, Range, Share, Side
from qgnet.common.terminal import say, warn

ON_HOST = ("support_masks", "class_id", "present")
"""Fields of an Episode that are not brought to the device."""


class EpisodeDataModule(BaseDataModule):
    """Episodes of one fold: base classes for training, novel classes for validation and test.

    A choice of the protocol that such data have no use for (``useless_choices``) is warned of.

    Args:
        fold: which classes are novel, 0 … 3.
        shots: supports per episode, K.
        protocol: a name and single choices that replace its own, e.g. ``--data.protocol.name hsnet``.
        seed: of the episodes and their augmentation; null: the protocol's first.
        episodes: number of validation and of test episodes; null: the protocol's.
        batch_size: episodes per process and step.
        num_workers: loader processes; null: one per core, but not more than 4.
        image_size: side of the square that the network sees, in pixels.
        min_class_area: pixels a class must cover in an image to count there.
        scale: range of the random scaling in training.
        train_episodes: episodes per training epoch; null: one per training image.
        episode_file: a manifest of test episodes written by ``qgnet episodes``; null draws them.
        negative: share of episodes, 0 … 1, whose supports show a class that is not in the query: the right answer is
            "nothing". In training they take the place of others; in a test they are added as controls.
        inverted: share of the other training episodes, 0 … 1, that ask for all but the object.
    """

    useless_choices: tuple[str, ...] = ("coco_folds", "coco_episodes")

    def __init__(
        self,
        fold: Natural = 0,
        shots: Count = 1,
        protocol: Protocol = Protocol(),  # noqa: B008  (frozen)
        seed: Natural | None = None,
        episodes: Count | None = None,
        batch_size: Count = 4,
        num_workers: Natural | None = None,
        image_size: Side = 473,
        min_class_area: Count = 2048,
        scale: Annotated[tuple[float, float], Range(0.1, 10), INCREASING] = (0.9, 1.1),
        train_episodes: Count | None = None,
        episode_file: str | None = None,
        negative: Share = 0.0,
        inverted: Share = 0.0,
    ) -> None:
        warn_of_useless_choices(protocol, self.useless_choices, type(self).__name__)
        if episode_file and episodes is not None:
            warn(f"data.episodes {episodes} does nothing, since data.episode_file says which episodes there are.")
        self.protocol = protocol.resolved()
        super().__init__(batch_size, num_workers, default_seed(self.protocol) if seed is None else seed)
        self.fold = fold
        self.shots = shots
        self.episodes = self.default_episodes if episodes is None and not episode_file else episodes
        self.image_size = image_size
        self.min_class_area = min_class_area
        self.scale = scale
        self.train_episodes = train_episodes
        self.episode_file = episode_file
        self.negative = negative
        self.inverted = inverted
        self.data: dict[str, EpisodeDataset] = {}
        self._indexes: dict[str, MaskIndex] = {}

    @property
    def default_episodes(self) -> int:
        """Number of test episodes by the protocol."""
        assert self.protocol.episodes is not None
        return self.protocol.episodes

    @property
    @abstractmethod
    def class_names(self) -> dict[int, str]:
        """Class number → name, for every class of the data set."""

    @property
    @abstractmethod
    def folds(self) -> Sequence[Sequence[int]]:
        """The novel classes of each fold."""

    @abstractmethod
    def source(self, split: str) -> LabelledImages:
        """The images of split ``train`` or ``val``."""

    def index_file(self, split: str) -> Path | None:
        """Where the index of the masks is kept; None: nowhere."""
        return None

    @property
    def image_choices(self) -> dict[str, Any]:
        """How the test's images and masks were chosen, in words."""
        return {}

    def test_images(self) -> dict[str, Any]:
        """What tells the test's images and masks from any others, the same in every fold and with every seed.

        Where they lie does not matter: names and class areas make the digest.
        """
        data = self.data["val"]
        areas = [sorted(areas.items()) for areas in data.areas]
        digest = hashlib.sha256(json.dumps([list(data.source.names), areas]).encode()).hexdigest()
        return {**self.image_choices, "number": len(areas), "sha256": digest}

    @property
    def novel_classes(self) -> list[int]:
        """Class numbers of this fold, never labelled in training."""
        return list(self.folds[self.fold])

    @property
    def base_classes(self) -> list[int]:
        """Class numbers of the other folds."""
        return [c for c in self.class_names if c not in self.folds[self.fold]]

    def prepare_data(self) -> None:
        """Index the masks in one process of each machine; the others read what it has kept.

        Raises:
            InputError: as `setup`.
        """
        self.check_settings()
        training = self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING
        for split in ("train", "val") if training else ("val",):
            if split not in self.data and self.index_file(split) is not None:
                self._indexes[split] = self.index(self.source(split), split)

    def check_settings(self) -> None:
        """InputError for a fold or classes that cannot be used."""
        if not 0 <= self.fold < len(self.folds):
            raise InputError(f"data.fold is {self.fold}; there are the folds 0 … {len(self.folds) - 1}.")
        check_split(self.class_names, self.base_classes, self.novel_classes, type(self).__name__)

    def setup(self, stage: str) -> None:
        """Build what this stage needs.

        Raises:
            InputError: for a fold or data that cannot be used.
        """
        self.check_settings()
        if stage == "fit" and "train" not in self.data:
            self.data["train"] = self._episodes("train")
        if "val" not in self.data:
            self.data["val"] = self._episodes("val", controls=stage != "predict")
        if stage == "fit":
            self._warn_of_shared()

    def _warn_of_shared(self) -> None:
        """Warn of images that are trained on and tested on."""
        train, test = ({data.source.names[i] for i in data.queries} for data in (self.data["train"], self.data["val"]))
        shared = sorted(train & test)
        if shared:
            warn(
                f"{len(shared)} image(s) are trained on and tested on, e.g. {shared[0]}: the scores of their classes "
                "are not those of new images. Give lists without a common image."
            )

    def _episodes(self, split: str, controls: bool = True) -> EpisodeDataset:
        training = split == "train"
        source = self.source(split)
        classes = self.base_classes if training else self.novel_classes
        index = self._indexes.pop(split, None) or self.index(source, split)
        data = EpisodeDataset(
            source,
            index,
            classes={c: self.class_names[c] for c in classes},
            novel=self.novel_classes,
            shots=self.shots,
            length=(self.train_episodes if training else self.episodes) or 0,
            image_size=self.image_size,
            scale=self.scale,
            min_class_area=self.min_class_area,
            protocol=self.protocol,
            negative=self.negative if controls else 0.0,
            inverted=self.inverted,
            seed=self.seed,
            fold=self.fold,
            training=training,
        )
        if self.episode_file and not training:
            data.use_manifest(read_manifest(Path(self.episode_file)))
        return data

    def index(self, source: LabelledImages, split: str) -> MaskIndex:
        """The index of a split's masks, kept in a file if there is one.

        Raises:
            InputError: if an image or mask is bad, and `qgnet prepare --skip-bad` has not ended well since.
        """
        file, title = self.index_file(split), f"Reading the masks of {split}"
        if file is None:
            index = MaskIndex.build(source, title)
        else:
            index = MaskIndex.cached(source, file, title)
            if index.accepted and index.bad:
                say(f"{len(index.bad)} bad image(s) of {split} are left out, as `qgnet prepare` was told.")
            if index.accepted:
                return index
        index.raise_bad(" `qgnet prepare --skip-bad` leaves bad files out." if file else "")
        return index

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
        """Each episode once, those of one query together; a limit of batches still takes the first episodes."""
        data = self.data["val"]
        batches = -(-len(data) // (self.batch_size * self.ranks))
        first = min(len(data), limited(limit, batches) * self.batch_size * self.ranks)
        order = visiting_order([data.query_of(i) for i in range(len(data))], first)
        visits = [order[i] for part in shares(len(data), first, self.rank, self.ranks) for i in part]
        return self.loader(data, training=False, visits=visits, collate_fn=collate)

    def transfer_batch_to_device(self, batch: Episode, device: torch.device, dataloader_idx: int) -> Episode:
        """Leave on the host what is asked for there: an answer from a GPU would be waited for."""
        host = {name: getattr(batch, name) for name in ON_HOST}
        without: dict[str, Any] = dict.fromkeys(ON_HOST)
        moved: Episode = super().transfer_batch_to_device(batch._replace(**without), device, dataloader_idx)
        return moved._replace(**host)
