"""Compare the settings with a checkpoint: stage and network; for a resumed training, also optimiser and schedule."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from qgnet.common.errors import InputError
from qgnet.common.settings import FINITE, check, renamed
from qgnet.weights.files import mismatches

OPTIMIZER = "optimizer"
"""Key in a checkpoint for the optimiser's class."""
SCHEDULE = "schedule"
"""Key in a checkpoint for the schedule's name, or its class and settings."""
MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]


def sample_optimizer(optimizer: MakeOptimizer) -> Optimizer:
    """An optimiser over a single parameter, for reading its settings."""
    return optimizer([nn.Parameter(torch.zeros(1, 1))])


def check_same_stage(own: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raise InputError for a checkpoint of the other stage; only weights of stage 1 have a queue."""
    queue = "net.queue"
    if queue in found and queue not in own:
        raise InputError(
            "The checkpoint is of stage 1, the prior extractor's training, but this is stage 2. Give one of stage 2; "
            "what stage 1 has learned is prior_extractor.ckpt in its run's folder, for --model.prior_weights."
        )
    if queue in own and queue not in found:
        raise InputError(
            "The checkpoint is of stage 2, but this is stage 1, the prior extractor's training. Give one of stage 1, "
            "or leave --ckpt_path out to start anew."
        )


def check_same_network(own: Mapping[str, Tensor], settings: Mapping[str, Any], checkpoint: dict[str, Any]) -> None:
    """Raise InputError, with the settings that differ, if weights have other names or shapes."""
    wrong = [key for keys in mismatches(own, checkpoint["state_dict"]).values() for key in keys]
    if not wrong:
        return
    theirs = renamed(dict(checkpoint.get("hyper_parameters", {})))
    differing = [
        f"{key} is {value!r}, in the checkpoint {theirs[key]!r}"
        for key, value in settings.items()
        if key in theirs and theirs[key] != value and not key.startswith("_")
    ]
    raise InputError(
        f"The checkpoint is of another network: {len(wrong)} weights differ, e.g. {wrong[0]}. "
        + ("Settings that differ: " + "; ".join(differing) + ". " if differing else "")
        + "Use the configuration it was trained with (config.yaml in its run's folder)."
    )


def check_same_optimizer(optimizer: Optimizer, checkpoint: dict[str, Any]) -> None:
    """Raise InputError if the resumed training had another optimiser, whose state and settings would be restored."""
    if "optimizer_states" not in checkpoint:
        raise InputError(
            "The checkpoint holds weights alone (save_weights_only): a training can't be resumed from it. Give "
            "checkpoints/last.ckpt of its run; a test takes weights alone."
        )
    if not checkpoint["optimizer_states"]:  # imported weights start a new training
        return
    had = checkpoint["optimizer_states"][0]["param_groups"][0]
    now = optimizer.param_groups[0]
    had = had | {"lr": had.get("initial_lr", had["lr"])}  # the rate before the schedule
    kind = type(optimizer).__name__
    differing = [f"is {kind}, was {checkpoint[OPTIMIZER]}"] if checkpoint.get(OPTIMIZER, kind) != kind else []
    differing += [
        f"has {name} {now[name]}, had {had[name]}"
        for name in now
        if name in had and name != "params" and now[name] != had[name]
    ]
    if differing:
        raise InputError(
            f"model.optimizer {'; '.join(differing)}: a training is resumed with the optimiser it began with. Give its "
            "settings (config.yaml in its run's folder), or start a new training without --ckpt_path."
        )


def check_same_schedule(schedule: str, checkpoint: dict[str, Any]) -> None:
    """Raise InputError if the resumed training had another schedule, whose state would be restored."""
    had = checkpoint.get(SCHEDULE, schedule)
    if checkpoint["lr_schedulers"] and had != schedule:  # imported weights have none
        raise InputError(
            f"model.schedule is {schedule}, was {had}: a training is resumed with the schedule it began with. Give "
            "that one (config.yaml in its run's folder), or start a new training without --ckpt_path."
        )


def check_optimizer(optimizer: MakeOptimizer) -> None:
    """Raise InputError if an optimiser cannot be created, or a setting is infinite or NaN."""
    try:
        made = sample_optimizer(optimizer)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"model.optimizer: {error}. Correct its settings.") from None
    for name, value in made.param_groups[0].items():
        check({name: [FINITE]}, {name: value}, "model.optimizer")
