"""Learning-rate schedules: one of the names in `FACTORS`, or a scheduler of torch."""

import math
import warnings
from collections.abc import Callable
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from qgnet.common.errors import InputError
from qgnet.common.settings import FINITE, check

MakeScheduler = Callable[[Optimizer], LRScheduler]
Schedule = Literal["poly", "cosine", "step", "constant"] | MakeScheduler
POLY_POWER = 0.9
"""Exponent of the poly schedule, applied per iteration (released code)."""
FACTORS: dict[str, Callable[[float], float]] = {
    "poly": lambda progress: (1 - progress) ** POLY_POWER,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "step": lambda progress: 0.1 ** ((progress >= 0.6) + (progress >= 0.8)),
    "constant": lambda progress: 1.0,
}
"""Name → factor of the learning rate at a progress in [0, 1]: the paper's, MoCo v2's, MoCo v1's, none."""


def make_scheduler(schedule: Schedule, optimizer: Optimizer, factor: Callable[[int], float]) -> LRScheduler:
    """Create the scheduler of a training; it makes a step with each step of the optimiser.

    Args:
        schedule: a name in `FACTORS`, or a function that creates a scheduler.
        optimizer: the optimiser of the learning rate.
        factor: factor of the learning rate at a step, for a schedule with a name.
    """
    return LambdaLR(optimizer, factor) if isinstance(schedule, str) else schedule(optimizer)


def follow_schedule(scheduler: LambdaLR, optimizer: Optimizer) -> None:
    """Set the optimiser's learning rates for its current step.

    The rates in a checkpoint belong to the earlier length of the training; a resumed training may be longer.
    """
    for group, base, factor in zip(optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
        group["lr"] = base * factor(scheduler.last_epoch)


def check_length(scheduler: LRScheduler, steps: float) -> None:
    """Raise InputError if a scheduler ends before the training."""
    if isinstance(scheduler, OneCycleLR) and scheduler.total_steps < steps < math.inf:
        raise InputError(
            f"model.schedule is OneCycleLR with {scheduler.total_steps} steps, but the training has {steps}. Give it "
            "total_steps of the whole training, or lower --trainer.max_epochs. A resumed training can't become longer."
        )


def check_schedule(schedule: Schedule, optimizer: Optimizer) -> None:
    """Raise InputError if a scheduler cannot be created for the optimiser, or follows a metric instead of the steps.

    Settings that are infinite or NaN, or with which the first step fails, are refused, too.
    """
    settings = getattr(schedule, "keywords", {})
    check({name: [FINITE] for name in settings}, settings, "model.schedule")
    try:
        made = make_scheduler(schedule, optimizer, lambda step: 1.0)
        if not isinstance(made, ReduceLROnPlateau):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a warning that the optimiser has made no step
                made.step()
    except (ArithmeticError, KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error.args[0]).split("\n")[0].rstrip(".")
        raise InputError(f"model.schedule: {reason}. Correct its settings.") from None
    if isinstance(made, ReduceLROnPlateau):
        raise InputError(
            "model.schedule is ReduceLROnPlateau, which follows a metric; schedules are stepped with the optimiser. "
            f"Take another of torch.optim.lr_scheduler, or one of {', '.join(FACTORS)}."
        )


def describe_schedule(schedule: Schedule, optimizer: Optimizer) -> str:
    """The schedule as text for a checkpoint: its name, or its class and settings."""
    if isinstance(schedule, str):
        return schedule
    settings: dict[str, Any] = getattr(schedule, "keywords", {})
    made = type(make_scheduler(schedule, optimizer, lambda step: 1.0)).__name__
    return f"{made}({', '.join(f'{name}={value}' for name, value in settings.items())})"
