"""Several machines in one run."""

import os

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from qgnet.common.errors import InputError
from qgnet.common.internals import cluster_environment

BY_HAND = {"MASTER_ADDR", "NODE_RANK"}
"""What a user sets where no launcher does."""


def require_launcher(trainer: pl.Trainer, setting: str) -> None:
    """InputError if a run over several machines would wait for the others without knowing of them.

    Args:
        trainer: of the run.
        setting: that asks for the machines, for the message.
    """
    alone = isinstance(cluster_environment(trainer), LightningEnvironment) and not os.environ.keys() >= BY_HAND
    if trainer.num_nodes > 1 and alone:
        raise InputError(
            f"{setting} is {trainer.num_nodes}, but nothing says where the other machines are, so this one would wait "
            "for them forever. Start the command on each of them by torchrun or srun, or with MASTER_ADDR (the first "
            "machine's address), MASTER_PORT and NODE_RANK (0, 1, …) set."
        )
