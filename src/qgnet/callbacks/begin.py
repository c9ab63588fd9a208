"""What a run writes first: only when nothing can refuse it any more."""

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
    """In the place of a run's loggers until it begins: Lightning lets loggers make their files when it sets up.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = str(folder)

    @property
    def save_dir(self) -> str:
        """Where Lightning puts the checkpoints."""
        return self.folder


class Begin(pl.Callback):
    """Writes the resolved configuration to ``config.yaml`` in the run's own folder, and hands the trainer its loggers.

    It waits for the first step: a run that is refused, by a checkpoint that does not fit its settings for instance, has
    left the folder as it was.

    Args:
        parser: of the subcommand.
        config: all settings.
        loggers: the run's.
    """

    def __init__(self, parser: LightningArgumentParser, config: Namespace, loggers: Sequence[Logger]) -> None:
        self.parser, self.config, self.loggers = parser, config, loggers
        self.begun = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a training: its checkpoint is restored. Lightning asks callbacks before the task, hence the check."""
        if isinstance(pl_module, Task):
            pl_module.check_schedule_length()
        self._begin(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A training without a step has a configuration, too; one that was to be resumed has its own."""
        if not (Path(trainer.default_root_dir) / CONFIG).exists():
            self._begin(trainer)

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin what is no training: the weights are loaded, and the classes were not trained on."""
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
        """All settings; ``run`` is left out, so the file can be used again as it is."""
        config = self.config.clone()
        config.run = None
        if isinstance(data, EpisodeDataModule):  # what the protocol's name stands for, in full
            settings = config.data.init_args
            settings.update(
                Namespace(protocol=Namespace(asdict(data.protocol)), seed=data.seed, episodes=data.episodes)
            )
        with atomic_write(path) as part:
            self.parser.save(config, part, skip_none=False, overwrite=True, multifile=False)
