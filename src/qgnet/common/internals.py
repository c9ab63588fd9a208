"""All that this project uses of other packages, mostly Lightning, that is not in their public interface.

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
    """Whole epochs that were trained on; ``trainer.current_epoch`` lags behind at an epoch's end and after loading."""
    return int(trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]


def counts_finished_epoch(trainer: "pl.Trainer") -> bool:
    """Whether each epoch begun is counted as trained on; not yet in the checkpoint of an epoch's last step."""
    progress = trainer.fit_loop.epoch_progress.current
    return bool(progress.processed == progress.ready)  # type: ignore[attr-defined]


def batches_trained(trainer: "pl.Trainer") -> int:
    """Batches of the epoch that were trained on; those only fetched do not count."""
    return int(trainer.fit_loop.epoch_loop.batch_progress.current.processed)  # type: ignore[attr-defined]


def batches_of_epoch(trainer: "pl.Trainer") -> int:
    """Batches that an epoch has under the trainer's limits."""
    return int(trainer.fit_loop.max_batches)


def begin_next_epoch(trainer: "pl.Trainer") -> None:
    """Do not take up the epoch that a loaded checkpoint has finished once more, as Lightning does with `max_steps`."""
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
    """Tell all loggers the settings of model and data, as Lightning does before a checkpoint is wholly restored."""
    from pytorch_lightning.loggers.utilities import _log_hyperparams  # noqa: PLC0415

    _log_hyperparams(trainer)


def trainer_of(module: "pl.LightningModule") -> "pl.Trainer | None":
    """The Trainer of a task; without one, ``module.trainer`` raises."""
    return module._trainer


def may_go_offline(logger: "WandbLogger") -> bool:
    """Whether the logger still has to find its server."""
    return logger._experiment is None and not logger._offline


def go_offline(logger: "WandbLogger") -> None:
    """Let the logger write to its folder alone, where no checkpoint can be uploaded from."""
    logger._offline, logger._log_model = True, False


def cluster_environment(trainer: "pl.Trainer") -> Any:
    """SLURM's, torchrun's, … or None."""
    return trainer._accelerator_connector.cluster_environment


def do_not_send_buffers(module: nn.Module) -> None:
    """Let DistributedDataParallel leave the buffers of a module alone: they are equal on all processes."""
    names = [name for name, _ in module.named_buffers()]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, names)
