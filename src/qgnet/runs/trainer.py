"""Lightning's Trainer with limits that distinguish 1 (one batch) from 1.0 (all batches)."""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException

from qgnet.common.errors import InputError
from qgnet.common.internals import cluster_environment
from qgnet.common.mistakes import refused_by_lightning

BY_HAND = {"MASTER_ADDR", "NODE_RANK"}
"""Variables that a user sets where no launcher does."""

Limit = int | float | None
"""So many batches, or their share in [0, 1]. Whole numbers are looked for first: ``Union[int, float]``, as Lightning
writes it, has the order of whichever equal union any library has made before (`typing` keeps one of them)."""


class Trainer(pl.Trainer):
    """As Lightning's. Only the types of these settings are our own; command line and YAML are read by them.

    Args:
        limit_train_batches: batches of an epoch: 1 is one, 1.0 all of them.
        limit_val_batches: batches of each validation loader, likewise.
        limit_test_batches: batches of each test loader, likewise.
        limit_predict_batches: batches of each loader of a prediction, likewise.
        overfit_batches: train and validate on so many batches, or this share; 0.0 does not.
        val_check_interval: batches between two validations, a share of the epoch, or a time.
        kwargs: Lightning's other settings.
    """

    def __init__(
        self,
        *,
        limit_train_batches: Limit = None,
        limit_val_batches: Limit = None,
        limit_test_batches: Limit = None,
        limit_predict_batches: Limit = None,
        overfit_batches: int | float = 0.0,
        val_check_interval: Limit | str | timedelta | dict[str, int] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches,
            limit_predict_batches=limit_predict_batches,
            overfit_batches=overfit_batches,
            val_check_interval=val_check_interval,
            **kwargs,
        )


def checked_trainer(make: Callable[[], pl.Trainer], refused: str, nodes: str) -> pl.Trainer:
    """Create a Trainer; InputError if Lightning refuses, or the run would wait for machines that it does not know.

    Args:
        make: makes it.
        refused: message if Lightning refuses to; ``{}`` stands for its reason.
        nodes: setting that asks for several machines, for a message.
    """
    try:
        trainer = make()
    except (ValueError, TypeError, RuntimeError, ImportError, MisconfigurationException) as error:
        if not refused_by_lightning(error):
            raise
        raise InputError(refused.format(error)) from error
    alone = isinstance(cluster_environment(trainer), LightningEnvironment) and not os.environ.keys() >= BY_HAND
    if trainer.num_nodes > 1 and alone:
        raise InputError(
            f"{nodes} is {trainer.num_nodes}, but nothing says where the other machines are, so this one would wait "
            "for them forever. Start the command on each of them by torchrun or srun, or with MASTER_ADDR (the first "
            "machine's address), MASTER_PORT and NODE_RANK (0, 1, …) set."
        )
    return trainer
