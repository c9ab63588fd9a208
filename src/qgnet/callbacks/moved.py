"""A training resumed in a folder that was moved meanwhile, or is named by another path."""

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from qgnet.runs.folders import checkpoint_run


class MovedCheckpoints(pl.Callback):
    """Gives checkpoint callbacks today's paths of the files they wrote before; Lightning compares paths as text.

    Without it, what cannot be recognised is taken for another run's: ``last-v1.ckpt`` is written next to ``last.ckpt``.
    """

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Give the files today's folder; drop the state if one is missing, so that it is written anew."""
        run = checkpoint_run(Path(str(trainer.ckpt_path)))
        same_run = run.resolve() == Path(trainer.default_root_dir).resolve()
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint["callbacks"].get(callback.state_key)
            if state is None or not isinstance(callback, ModelCheckpoint):
                continue
            folder = str(callback.dirpath)
            if "://" not in folder and (same_run or state["dirpath"] == folder):
                moved = in_folder(state, folder)
                there = all(Path(file).is_file() for file in written_files(moved))
                if trainer.strategy.broadcast(there):
                    checkpoint["callbacks"][callback.state_key] = moved
                else:
                    del checkpoint["callbacks"][callback.state_key]


def in_folder(state: dict[str, Any], folder: str) -> dict[str, Any]:
    """The state of a checkpoint callback, with its files in this folder."""

    def path(old: str) -> str:
        return old and os.path.join(folder, os.path.relpath(old, state["dirpath"]))

    paths = {name: path(state[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
    scores = {path(file): score for file, score in state["best_k_models"].items()}
    return {**state, **paths, "best_k_models": scores, "dirpath": folder}


def written_files(state: dict[str, Any]) -> list[str]:
    """The files that a checkpoint callback will not write again, as it has them."""
    return [*state["best_k_models"]] or [file for file in [state["best_model_path"]] if file]
