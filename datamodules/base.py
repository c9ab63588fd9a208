"""Base of all DataModules of this project."""

from collections.abc import Iterator, Sequence, Sized
from typing import Any

import cv2
import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from qgnet.common.errors import InputError
from qgnet.common.internals import (
    batches_of_epoch,
    batches_trained,
    begin_next_epoch,
    counts_finished_epoch,
    epochs_trained,
)
from qgnet.common.pool import cores
from qgnet.common.settings import Checked, Count, Natural


class IndexSampler(DistributedSampler[int]):
    """Gives each number of the data set once: no rank repeats an episode to equalise the number of batches.

    The data set turns a number into a random draw, so batch size, workers and ranks do not change episodes.

    Args:
        data: its length is that of an epoch.
        rank: of this process.
        ranks: number of processes; rank r takes r, r + ranks, …
        batch_size: for training: only whole batches, as many on each rank, and the numbers go on from epoch to
            epoch. None for evaluation: every number, the same in each epoch.
        visits: for evaluation: the numbers of this rank, in the order in which it takes them.
    """

    def __init__(
        self, data: Sized, rank: int, ranks: int, batch_size: int | None, visits: Sequence[int] | None = None
    ) -> None:
        super().__init__(data, num_replicas=ranks, rank=rank, shuffle=False)  # type: ignore[arg-type]
        self.visits = visits
        self.training = batch_size is not None
        self.done = 0
        """Numbers of the next epoch that this rank has already had, in the run that is resumed."""
        self.total = len(data)
        if batch_size is not None:
            step = batch_size * ranks
            self.total = max(1, self.total // step) * step

    def __iter__(self) -> Iterator[int]:
        """This rank's numbers of the current epoch."""
        if self.visits is not None:
            return iter(self.visits)
        start = self.epoch * self.total if self.training else 0
        left = range(start + self.rank, start + self.total, self.num_replicas)[self.done :]
        self.done = 0
        return iter(left)

    def __len__(self) -> int:
        """How many numbers this rank gets in an epoch."""
        if self.visits is not None:
            return len(self.visits)
        return len(range(self.rank, self.total, self.num_replicas))


class TrainingLoader(DataLoader[Any]):
    """A DataLoader whose position in the epoch is saved in checkpoints. Batches that were only fetched do not count."""

    def __init__(self, data: Dataset[Any], sampler: IndexSampler, trainer: pl.Trainer, **options: Any) -> None:
        super().__init__(data, sampler=sampler, **options)
        self.trainer = trainer
        self.ahead = 0
        """Epochs that are done, but not counted yet by the checkpoint of an epoch's last step."""

    @property
    def epoch(self) -> int:
        """The number of whole epochs that were trained on."""
        return epochs_trained(self.trainer)

    def __iter__(self) -> Any:
        """The batches of this epoch.

        Lightning sets the sampler's epoch too late for a run that is resumed after a whole epoch: workers fetch ahead.
        """
        assert isinstance(self.sampler, IndexSampler)
        self.sampler.set_epoch(self.epoch + self.ahead)
        self.ahead = 0
        return super().__iter__()

    def state_dict(self) -> dict[str, int]:
        """Number of finished batches of the epoch; 0 after the last."""
        return {"batches": batches_trained(self.trainer) % batches_of_epoch(self.trainer)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Skip the finished batches."""
        assert isinstance(self.sampler, IndexSampler)
        assert self.batch_size is not None
        self.sampler.done = state["batches"] * self.batch_size
        counted = counts_finished_epoch(self.trainer)
        self.ahead = int(not state["batches"] and not counted)
        if not state["batches"] and counted:
            begin_next_epoch(self.trainer)


class BaseDataModule(pl.LightningDataModule, metaclass=Checked):
    """Loaders and their common settings.

    A subclass names its own settings and those with another default; it passes the rest on as ``kwargs``.

    Args:
        batch_size: samples per process and step.
        num_workers: loader processes; null: one per core of the machine, but not more than ``most_workers``.
        seed: of every random choice about the data.
    """

    prefix = "data"
    most_workers = 4
    """Default limit of loader processes; more are not worth their memory."""
    more: tuple[str, str]
    """Settings that give more samples for evaluation and for training, for a message."""

    def __init__(
        self,
        batch_size: Count,
        num_workers: Natural | None,
        seed: Natural,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = min(self.most_workers, cores()) if num_workers is None else num_workers
        self.seed = seed

    @property
    def rank(self) -> int:
        """Of this process."""
        return self.trainer.global_rank if self.trainer else 0

    @property
    def ranks(self) -> int:
        """Number of processes."""
        return self.trainer.world_size if self.trainer else 1

    def loader(
        self, data: Dataset[Any], training: bool, visits: Sequence[int] | None = None, **options: Any
    ) -> DataLoader[Any]:
        """A DataLoader that gives each sample once over all processes; ``visits`` as for :class:`IndexSampler`."""
        trainer = self.trainer
        count = len(data)  # type: ignore[arg-type]
        if count < self.ranks and not self.allow_zero_length_dataloader_with_multiple_devices:
            raise InputError(
                f"There are {count} {'training' if training else 'evaluation'} samples for {self.ranks} "
                f"processes; each needs one. Give more ({self.more[training]}), or lower --trainer.devices."
            )
        batch_size = self.batch_size if training else None
        sampler = IndexSampler(data, self.rank, self.ranks, batch_size, visits)  # type: ignore[arg-type]
        options |= {
            "batch_size": self.batch_size,
            "num_workers": self.num_workers,
            "worker_init_fn": one_thread,
            "pin_memory": bool(trainer and trainer.accelerator.name() != "cpu"),
            "persistent_workers": training and self.num_workers > 0,
        }
        if training and trainer:
            return TrainingLoader(data, sampler, trainer, **options)
        return DataLoader(data, sampler=sampler, **options)


def one_thread(worker: int) -> None:
    """Keep OpenCV in a loader process to one thread; the processes are the parallelism."""
    cv2.setNumThreads(0)
