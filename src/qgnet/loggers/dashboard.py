"""Tables, charts and the origin of weights for Weights & Biases, besides the logged numbers and figures."""

import json
import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from qgnet.loggers.wandb import Wandb
from qgnet.runs.folders import checkpoint_run
from qgnet.runs.results import RESULTS
from qgnet.runs.tables import CONTROLS, MEANS, collect
from qgnet.tasks.base import Task
from qgnet.tasks.episodic import EpisodicTask


class Dashboard(pl.Callback):
    """Sends every ``Wandb`` logger the sha256 of frozen weights, IoU per class, and the experiment's table of tests."""

    def _loggers(self, trainer: pl.Trainer) -> list[Wandb]:
        return [logger for logger in trainer.loggers if isinstance(logger, Wandb)] if trainer.is_global_zero else []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the sha256 of the weights, which are loaded now."""
        for logger in self._loggers(trainer):
            assert isinstance(pl_module, Task)
            logger.describe({"files_sha256": pl_module.file_hashes})

    on_test_epoch_start = on_train_start

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log ``val/class_iou`` as a table and a bar chart."""
        if not trainer.sanity_checking:
            self._classes(trainer, pl_module, "val")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log ``test/class_iou``, and ``test/report`` with all tests of the experiment so far, ± over seeds."""
        self._classes(trainer, pl_module, "test")
        for logger in self._loggers(trainer):
            if isinstance(pl_module, EpisodicTask):
                logger.log_table("test/report", *report(experiment_of(trainer)))

    def _classes(self, trainer: pl.Trainer, task: pl.LightningModule, stage: str) -> None:
        for logger in self._loggers(trainer):
            if isinstance(task, EpisodicTask):
                names = [task.class_names[c] for c in task.metric.class_ids]
                scores = zip(names, task.scores[stage].class_iou, strict=True)
                logger.log_class_iou(f"{stage}/class_iou", {c: iou for c, iou in scores if not math.isnan(iou)})


def experiment_of(trainer: pl.Trainer) -> Path:
    """The folder with the runs of this run's experiment."""
    checkpoint = trainer.ckpt_path
    return (checkpoint_run(Path(checkpoint)) if checkpoint else Path(trainer.default_root_dir)).resolve().parent


def report(folder: Path) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of all tests under a folder, as in ``qgnet report``."""
    paths = sorted(folder.rglob(RESULTS), key=lambda path: path.stat().st_mtime)
    tables, _ = collect(json.loads(path.read_text()) for path in paths)
    width = max(table.setting.folds for table in tables)
    columns = ["test", "experiment", "trained", "checkpoint", "seeds", *(f"fold {i}" for i in range(width))]
    rows = []
    for table in tables:
        for cells in table.cells():
            folds = table.setting.folds
            scores = [*cells[4 : 4 + folds], *["-"] * (width - folds), *cells[4 + folds :]]
            rows.append([table.title, *cells[:4], *scores, *["-"] * (len(CONTROLS) - len(table.controlled))])
    return [*columns, *MEANS, *CONTROLS], rows
