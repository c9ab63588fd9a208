"""Base of all LightningModules: optimiser, schedule, and checkpoints that record the files they started from."""

import inspect
import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_warn
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from qgnet.common.errors import InputError
from qgnet.common.internals import do_not_send_buffers, logs_this_step, trainer_of
from qgnet.common.settings import Checked, Range, renamed
from qgnet.networks.encoders import IMAGENET, Encoder, create_encoder
from qgnet.networks.layers import constants
from qgnet.networks.synchronised import synchronise_batch_norm
from qgnet.tasks.finite import FiniteWatch, not_finite
from qgnet.tasks.resuming import (
    OPTIMIZER,
    SCHEDULE,
    MakeOptimizer,
    check_optimizer,
    check_same_network,
    check_same_optimizer,
    check_same_schedule,
    check_same_stage,
    sample_optimizer,
)
from qgnet.tasks.schedules import (
    FACTORS,
    Schedule,
    check_length,
    check_schedule,
    describe_schedule,
    follow_schedule,
    make_scheduler,
)

FILES = "frozen_files"
"""Key in a checkpoint for the sha256 of each weights file that the training started from."""
NORMALISATION = "normalisation"
"""Key in a checkpoint for mean and standard deviation of each encoder's input images."""
HighStage = Annotated[int, Range(3, 4)]
Weight = Annotated[float, Range(0)]
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
"""Precisions with float32 weights."""


class Task(pl.LightningModule, metaclass=Checked):
    """A LightningModule over a plain network.

    Args:
        optimizer: creates the optimiser from the trainable parameters; None if nothing is trained.
        schedule: schedule of the learning rate, applied at each step.

    Raises:
        InputError: if the optimiser or the schedule rejects its settings.
    """

    prefix = "model"
    net: nn.Module

    def __init__(self, optimizer: MakeOptimizer | None = None, schedule: Schedule = "constant") -> None:
        super().__init__()
        if optimizer is not None:
            check_optimizer(optimizer)
            check_schedule(schedule, sample_optimizer(optimizer))
        self._make_optimizer = optimizer
        self._schedule = schedule
        self.file_hashes: dict[str, str] = {}
        self.has_weights = False
        self.finite_watch = FiniteWatch()

    @property
    def data(self) -> Any:
        """The run's DataModule."""
        return self.trainer.datamodule  # type: ignore[attr-defined]

    @property
    def evaluation(self) -> str:
        """Prefix of the logged scores of the current evaluation: ``test`` or ``val``."""
        return "test" if self.trainer.testing else "val"

    def load_starting_weights(self) -> None:
        """Load the files that the settings name into the network; InputError if a file cannot be used."""

    @abstractmethod
    def check_data(self, data: Any) -> None:
        """Raise InputError for a DataModule that does not fit this task; called before the data are read."""

    def unused_settings(self) -> dict[str, list[str]]:
        """Settings without effect because of other settings: reason → names."""
        return {}

    def _warn_of_unused_settings(self) -> None:
        """Warn only of settings that differ from their defaults; combined configurations may contain such settings."""
        defaults = {name: p.default for name, p in inspect.signature(type(self).__init__).parameters.items()}
        for reason, names in self.unused_settings().items():
            values = {name: self.hparams.get(name) for name in names if name in defaults}
            shown = [f"model.{name} ({x})" for name, x in values.items() if x not in (None, defaults[name])]
            if shown:
                rank_zero_warn(f"{reason}, so this has no effect: {', '.join(shown)}.")

    def setup(self, stage: str) -> None:
        """Warn of settings without effect, use the fastest memory layout, and prepare training in several processes.

        With several processes, batch norms are synchronised, and buffers are equal without being sent.

        Raises:
            InputError: for a precision that is not in `PRECISIONS`.
        """
        if self.trainer.precision not in PRECISIONS:
            raise InputError(
                f"--trainer.precision is {self.trainer.precision}; weights, losses and similarities need float32. Take "
                f"one of {', '.join(PRECISIONS)}."
            )
        self._warn_of_unused_settings()
        self.net = self.net.to(memory_format=torch.channels_last)  # the fastest layout for convolutions
        if stage == "fit" and self.trainer.world_size > 1:
            self.net = synchronise_batch_norm(self.net, self.trainer.strategy.root_device.type)
            do_not_send_buffers(self)

    def on_fit_start(self) -> None:
        """Load the starting weights, unless a checkpoint with all weights was restored before."""
        if not self.has_weights:
            self.load_starting_weights()
            self.has_weights = True

    on_validation_start = on_test_start = on_predict_start = on_fit_start

    def check_schedule_length(self) -> None:
        """Raise InputError if the schedule ends before the training; called before a run writes anything."""
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, LRScheduler) and not isinstance(self._schedule, str):
            check_length(scheduler, self.trainer.estimated_stepping_batches)

    def on_train_start(self) -> None:
        """Set the learning rate from the schedule; the number of steps is known now, also for an extended training."""
        self.check_schedule_length()
        scheduler = self.lr_schedulers()
        if isinstance(self._schedule, str) and isinstance(scheduler, LambdaLR):
            follow_schedule(scheduler, scheduler.optimizer)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed dropout by ``seed_everything``, epoch and batch only, so that a resumed run repeats it exactly.

        All processes draw the same numbers, and each takes those of its share of the batch.
        """
        seed = os.environ.get("PL_GLOBAL_SEED")
        if seed is not None:
            number = [int(seed), self.current_epoch, batch_idx, 0]
            torch.manual_seed(int(np.random.SeedSequence(number).generate_state(1)[0]))

    def check_finite(self, names: Sequence[str], outputs: Tensor) -> None:
        """Stop an evaluation, at once or some batches later, if one of its outputs (B, …) is not finite."""
        if self.finite_watch.add(names, outputs):
            self.require_finite()

    def require_finite(self) -> None:
        """Raise InputError if an output since the last check was not finite; waits for the device."""
        name = self.finite_watch.first_not_finite()
        if name is None:
            return
        trainer, settings = self.trainer, ("encoder_weights", "prior_weights", "prior_bank")
        source = ", ".join(f"--model.{s} {self.hparams[s]}" for s in settings if self.hparams.get(s) is not None)
        if trainer.state.fn == TrainerFn.FITTING and trainer.global_step:
            source = f"this training at step {trainer.global_step}"
        raise InputError(not_finite(name, str(trainer.ckpt_path or source)))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The injected optimiser over the trainable parameters, and the schedule per step.

        Raises:
            InputError: if the length of the training is unknown, because named schedules depend on it.
        """
        assert self._make_optimizer is not None
        if isinstance(self._schedule, str) and self.trainer.max_epochs == self.trainer.max_steps == -1:
            raise InputError(
                "The learning rate follows the share of the training that is done, so its length must be known. Set "
                "--trainer.max_epochs or --trainer.max_steps, beside --trainer.max_time if you like."
            )
        optimizer = self._make_optimizer(p for p in self.parameters() if p.requires_grad)
        scheduler = make_scheduler(self._schedule, optimizer, self._factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _factor(self, step: int) -> float:
        """Factor of the learning rate at a step, for a schedule with a name.

        The number of steps is read as late as possible, because Lightning draws the first batches for it. A run that is
        resumed in the middle of an epoch can do this only after its checkpoint is loaded.
        """
        progress = min(1.0, step / max(1, int(self.trainer.estimated_stepping_batches))) if step else 0.0
        return FACTORS[str(self._schedule)](progress)

    def log_means(self, stage: str, values: dict[str, Tensor], batch_size: int) -> None:
        """Log scalars with the names ``<stage>/…``, as means over all processes.

        All scalars are reduced in one message; a training sends it only for logged steps.
        """
        if self.trainer.world_size > 1 and (stage != "train" or logs_this_step(self.trainer)):
            together = torch.stack([value.detach().float() for value in values.values()])
            means = self.trainer.strategy.reduce(together, reduce_op="mean")
            values = dict(zip(values, means.unbind(), strict=True))
        named = {f"{stage}/{name}": value for name, value in values.items()}
        self.log_dict(named, batch_size=batch_size, add_dataloader_idx=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the sha256 of the weights files, each encoder's normalisation, the optimiser and the schedule."""
        if self._make_optimizer is not None:
            optimizer = sample_optimizer(self._make_optimizer)
            checkpoint[OPTIMIZER] = type(optimizer).__name__
            checkpoint[SCHEDULE] = describe_schedule(self._schedule, optimizer)
        checkpoint[FILES] = dict(self.file_hashes)
        checkpoint[NORMALISATION] = {name: [*map(list, (e.mean, e.std))] for name, e in self._encoders()}

    def _encoders(self) -> list[tuple[str, Encoder]]:
        return [(name, module) for name, module in self.named_modules() if isinstance(module, Encoder)]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the recorded sha256 and normalisation; subclasses compare the sha256 with their settings.

        Raises:
            InputError: if the checkpoint is of another stage or network, or a resumed training has another optimiser or
                schedule.
        """
        check_same_stage(self.state_dict(), checkpoint["state_dict"])
        trainer = trainer_of(self)
        if trainer is not None and trainer.state.fn == TrainerFn.FITTING and self._make_optimizer:
            optimizer = sample_optimizer(self._make_optimizer)
            check_same_optimizer(optimizer, checkpoint)
            check_same_schedule(describe_schedule(self._schedule, optimizer), checkpoint)
        self.file_hashes = renamed(checkpoint.get(FILES, {}))
        recorded = checkpoint.get(NORMALISATION, {})
        for name, encoder in self._encoders():  # older checkpoints lack it; their encoders have ImageNet's
            mean, std = recorded.get(name, IMAGENET)
            encoder.mean, encoder.std = tuple(mean), tuple(std)
        self.has_weights = True
        check_same_network(self.state_dict(), self.hparams, checkpoint)


def ends_step(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether the optimiser makes a step with this training batch, instead of accumulating more gradients."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch


def is_logged(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether the trainer logs metrics after this training batch."""
    return ends_step(trainer, batch_idx) and logs_this_step(trainer)


@contextmanager
def as_setting_error() -> Iterator[None]:
    """Turn a network's ValueError about its arguments into an InputError about the settings ``model.*``."""
    try:
        yield
    except ValueError as error:
        raise InputError(f"model: {error}") from None


def make_encoder(name: str, high_stage: int, dilated: bool = True) -> Encoder:
    """An encoder from the user's settings; InputError for an unknown name or stage."""
    with as_setting_error():
        return create_encoder(name, high_stage, dilated)


def normalise(images: Tensor) -> Tensor:
    """uint8 images (…, 3, H, W) → float32, normalised by ImageNet's mean and standard deviation, on their device."""
    mean, std = (constants(x, images.device).view(3, 1, 1) for x in IMAGENET)
    return (images.float() / 255 - mean) / std
