"""The first files of a run, written after all checks have passed."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytorch_lightning as pl
import yaml
from jsonargparse import Namespace
from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.loggers import Logger
from pytorch_lightning.loggers.logger import DummyLogger
from pytorch_lightning.trainer.states import TrainerFn

from datamodules.episodic import EpisodeDataModule
from datamodules.files.writing import atomic_write
from qgnet.common.internals import log_hyperparams
from qgnet.loggers.naming import keep_id, origin
from qgnet.loggers.wandb import Wandb
from qgnet.runs.folders import CONFIG, keep_metrics
from qgnet.tasks.base import Task


class NoLogger(DummyLogger):
    """Replaces a run's loggers until it begins, because Lightning makes loggers create their files during setup.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = str(folder)

    @property
    def save_dir(self) -> str:
        """Folder in which Lightning saves the checkpoints."""
        return self.folder


class Begin(pl.Callback):
    """Writes the resolved configuration to ``config.yaml`` in the run's folder, and gives the trainer its loggers.

    It waits for the first step. A run that is refused before, for example because its checkpoint does not fit its
    settings, leaves the folder unchanged.

    Args:
        parser: parser of the subcommand.
        config: all settings.
        loggers: loggers of the run.
    """

    def __init__(self, parser: LightningArgumentParser, config: Namespace, loggers: Sequence[Logger]) -> None:
        self.parser, self.config, self.loggers = parser, config, loggers
        self.begun = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a training with its checkpoint restored. Lightning calls callbacks before the task, hence the check."""
        if isinstance(pl_module, Task):
            pl_module.check_schedule_length()
        self._begin(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the configuration of a training without a step; a resumed training keeps its own."""
        if not (Path(trainer.default_root_dir) / CONFIG).exists():
            self._begin(trainer)

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a run that is not a training: its weights are loaded, and its classes were not trained on."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._begin(trainer)

    on_validation_epoch_start = on_predict_epoch_start = on_test_epoch_start

    def _begin(self, trainer: pl.Trainer) -> None:
        if self.begun:
            return
        self.begun = True
        folder = Path(trainer.default_root_dir)
        if self.loggers:
            keep_metrics(folder)
            trainer.loggers = list(self.loggers)
        if self.config.trainer.enable_autolog_hparams:
            log_hyperparams(trainer)
        if trainer.is_global_zero:
            self._write(folder / CONFIG, trainer.datamodule)  # type: ignore[attr-defined]
            for logger in self.loggers:
                if isinstance(logger, Wandb):
                    logger.describe({"settings": yaml.safe_load((folder / CONFIG).read_text()), **origin()})
                    keep_id(folder, str(logger.version))

    def _write(self, path: Path, data: pl.LightningDataModule) -> None:
        """Write all settings except ``run``, so that the file can be used again unchanged."""
        config = self.config.clone()
        config.run = None
        if isinstance(data, EpisodeDataModule):  # the complete protocol instead of its name
            settings = config.data.init_args
            settings.update(
                Namespace(protocol=Namespace(asdict(data.protocol)), seed=data.seed, episodes=data.episodes)
            )
        with atomic_write(path) as part:
            self.parser.save(config, part, skip_none=False, overwrite=True, multifile=False)
