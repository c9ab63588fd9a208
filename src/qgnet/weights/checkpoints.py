"""Checkpoints that are whole or not there."""

import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from datamodules.files.writing import atomic_write
from qgnet.common.errors import InputError
from qgnet.runs.folders import LAST, SIGNAL, checkpoint_run
from qgnet.weights.files import read_tensors
from qgnet.weights.store import PRIOR_FORMAT


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes atomically, so that a run killed at any moment leaves the last checkpoint as it was."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            InputError: if it cannot be written; an earlier one of that name stays.
        """
        if "://" in str(path):  # a bucket: writes are atomic
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        try:
            with atomic_write(target) as part, open(part, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            if target.name == LAST.name:  # Lightning would prefer a signal's checkpoint, however old
                for older in checkpoint_run(target).glob(SIGNAL):
                    older.unlink()
        except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
            raise InputError(
                f"The checkpoint {target} cannot be written: {error}. What was there before is whole. Free space, or "
                "choose another folder with --run, and resume with --ckpt_path."
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint of a training.

        Raises:
            InputError: if the file cannot be read, runs code, or is something else, such as a prior extractor.
        """
        if "://" in str(path) or weights_only is False:  # which the user must have asked for
            return super().load_checkpoint(path, map_location, weights_only)
        checkpoint = read_tensors(Path(path), "--ckpt_path")
        if "pytorch-lightning_version" not in checkpoint or "state_dict" not in checkpoint:
            is_prior = checkpoint.get("format") == PRIOR_FORMAT
            raise InputError(
                f"--ckpt_path: {path} is {'a prior extractor' if is_prior else 'no checkpoint of a training'}. "
                + ("Give it as --model.prior_weights" if is_prior else "Give weights as --model.encoder_weights")
                + ", and here a file such as runs/<experiment>/<run>/checkpoints/last.ckpt."
            )
        return checkpoint
