"""All uses of private names of other packages, mostly Lightning.

When one of these moves, its test in ``tests/test_internals.py`` says what breaks; another test there finds private
names in any other file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:  # of use without Lightning, too
    import pytorch_lightning as pl
    from pytorch_lightning.loggers import WandbLogger


def epochs_trained(trainer: "pl.Trainer") -> int:
    """Number of finished training epochs; ``trainer.current_epoch`` lags at the end of an epoch and after loading."""
    return int(trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]


def counts_finished_epoch(trainer: "pl.Trainer") -> bool:
    """Whether every started epoch is counted as finished; not yet in the checkpoint of an epoch's last step."""
    progress = trainer.fit_loop.epoch_progress.current
    return bool(progress.processed == progress.ready)  # type: ignore[attr-defined]


def batches_trained(trainer: "pl.Trainer") -> int:
    """Number of trained batches of the epoch; batches that were only fetched do not count."""
    return int(trainer.fit_loop.epoch_loop.batch_progress.current.processed)  # type: ignore[attr-defined]


def batches_of_epoch(trainer: "pl.Trainer") -> int:
    """Number of batches of an epoch under the trainer's limits."""
    return int(trainer.fit_loop.max_batches)


def begin_next_epoch(trainer: "pl.Trainer") -> None:
    """Start the next epoch after a checkpoint of a finished one; Lightning repeats that epoch with `max_steps`."""
    loop = trainer.fit_loop
    loop._restarting = loop.epoch_loop.restarting = False


@contextmanager
def repeated_validation(trainer: "pl.Trainer") -> Iterator[None]:
    """A checkpoint saved within is of the validation's first batch, at which a resumed training begins."""
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    saved = progress.state_dict()
    for counts in (progress.total, progress.current):
        counts.ready = counts.started = 1  # type: ignore[attr-defined]
        counts.processed = counts.completed = 0  # type: ignore[attr-defined]
    yield
    progress.load_state_dict(saved)


def logs_this_step(trainer: "pl.Trainer") -> bool:
    """Whether `log_every_n_steps` lets the trainer write a line of metrics after this step."""
    return bool(trainer._logger_connector.should_update_logs)


def log_hyperparams(trainer: "pl.Trainer") -> None:
    """Log the settings of model and data; Lightning does it before a checkpoint is completely restored."""
    from pytorch_lightning.loggers.utilities import _log_hyperparams  # noqa: PLC0415

    _log_hyperparams(trainer)


def trainer_of(module: "pl.LightningModule") -> "pl.Trainer | None":
    """The Trainer of a task; without one, ``module.trainer`` raises."""
    return module._trainer


def may_go_offline(logger: "WandbLogger") -> bool:
    """Whether the logger has not reached its server yet."""
    return logger._experiment is None and not logger._offline


def go_offline(logger: "WandbLogger") -> None:
    """Make the logger write to its folder only; checkpoints cannot be uploaded from there."""
    logger._offline, logger._log_model = True, False


def cluster_environment(trainer: "pl.Trainer") -> Any:
    """SLURM's, torchrun's, … or None."""
    return trainer._accelerator_connector.cluster_environment


def do_not_send_buffers(module: nn.Module) -> None:
    """Let DistributedDataParallel leave the buffers of a module alone: they are equal on all processes."""
    names = [name for name, _ in module.named_buffers()]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, names)
