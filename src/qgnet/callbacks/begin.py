"""What a run writes first: only when nothing can refuse it any more."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from jsonargparse import Namespace
from pytorch_lightning.cli import SaveConfigCallback
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.trainer.states import TrainerFn

from datamodules.episodic import EpisodeDataModule
from datamodules.files.writing import atomic_write
from qgnet.common.internals import log_hyperparams
from qgnet.loggers.naming import keep_id, origin
from qgnet.loggers.wandb import Wandb
from qgnet.runs.folders import CONFIG, keep_metrics


class Metrics(CSVLogger):
    """``metrics.csv`` in the run's folder; that of before is set aside when the first line is to be written.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="", version="")
        self.begun = False

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Lightning's writer, which would remove an older file."""
        if not self.begun:
            keep_metrics(Path(self.root_dir))
            self.begun = True
        return super().experiment


class RunConfig(SaveConfigCallback):
    """Writes the resolved configuration to ``config.yaml`` in the run's own folder, and tells it to the loggers.

    It waits for the first step: a run that is refused, by a checkpoint that does not fit its settings for instance, has
    left the folder as it was.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Nothing yet, where Lightning would write."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a training: its checkpoint is restored."""
        self._begin(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A training without a step has a configuration, too; one that would go on keeps its own."""
        if not self.already_saved and not (Path(trainer.default_root_dir) / CONFIG).exists():
            self._begin(trainer)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a validation that is no part of a training."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._begin(trainer)

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a test: its weights are loaded, and its classes were not trained on."""
        self._begin(trainer)

    def on_predict_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a prediction."""
        self._begin(trainer)

    def _begin(self, trainer: pl.Trainer) -> None:
        """Save once, on the first process; ``run`` is left out, so the file can be used again as it is."""
        if self.already_saved:
            return
        self.already_saved = True
        if self.config.trainer.enable_autolog_hparams:
            log_hyperparams(trainer)
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        config = self.config.clone()
        config.run = None
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, EpisodeDataModule):  # what the protocol's name stands for, in full
            settings = config.data.init_args
            settings.update(
                Namespace(protocol=Namespace(asdict(data.protocol)), seed=data.seed, episodes=data.episodes)
            )
        with atomic_write(folder / CONFIG) as part:
            self.parser.save(config, part, skip_none=False, overwrite=True, multifile=False)
        for logger in trainer.loggers:
            if isinstance(logger, Wandb):
                settings = yaml.safe_load((folder / CONFIG).read_text())
                logger.describe({"settings": settings, **origin()})
                keep_id(folder, str(logger.version))
