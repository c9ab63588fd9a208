"""Resume a training whose folder was moved or is given by another path."""

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from qgnet.runs.folders import checkpoint_run


class MovedCheckpoints(pl.Callback):
    """Gives checkpoint callbacks the current paths of their earlier files, because Lightning compares paths as text.

    Without it, Lightning takes the files for those of another run and writes ``last-v1.ckpt`` next to ``last.ckpt``.
    """

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Set the current folder of the files; drop the state if a file is missing, so that it is written again."""
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
    """The state of a checkpoint callback with its files in this folder."""

    def path(old: str) -> str:
        return old and os.path.join(folder, os.path.relpath(old, state["dirpath"]))

    paths = {name: path(state[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
    scores = {path(file): score for file, score in state["best_k_models"].items()}
    return {**state, **paths, "best_k_models": scores, "dirpath": folder}


def written_files(state: dict[str, Any]) -> list[str]:
    """The files of a checkpoint callback that it does not write again."""
    return [*state["best_k_models"]] or [file for file in [state["best_model_path"]] if file]
