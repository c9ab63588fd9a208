"""The ``lightning`` command: fit, validate, test and predict, configured by YAML and command line."""

import os
import re
import signal
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from jsonargparse import Namespace
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.plugins.io import CheckpointIO
from torch.distributed import DistNetworkError

import datamodules
from datamodules.base import BaseDataModule, EpisodeDataModule
from datamodules.errors import InputError
from qgnet.callbacks.control import ControlPictures
from qgnet.callbacks.dashboard import Dashboard
from qgnet.callbacks.descriptors import DescriptorWriter
from qgnet.callbacks.finite import FiniteLoss
from qgnet.callbacks.pictures import EpisodePictures, ViewPictures
from qgnet.callbacks.predictions import MaskWriter
from qgnet.callbacks.requeue import Requeue
from qgnet.callbacks.results import TestResults
from qgnet.callbacks.throughput import Throughput
from qgnet.checkpoints import AtomicCheckpointIO
from qgnet.dashboards import name_run, origin
from qgnet.loggers import Wandb, require_package
from qgnet.runs import SEED, find_checkpoint, keep_metrics, run_folder
from qgnet.start import DESCRIPTION, fail
from qgnet.tasks.base import Task
from qgnet.tasks.episodic import EpisodicTask
from qgnet.tasks.matching import SupportMatching  # noqa: F401  (named in YAML)
from qgnet.tasks.pretraining import GlobalLocalPretraining
from qgnet.tasks.segmentation import FewShotSegmentation  # noqa: F401  (named in YAML)

for name in datamodules.__all__:  # imported, its classes can be named without their module in YAML
    getattr(datamodules, name)

LOST = re.compile("closed by peer|reset by peer|Broken pipe|remote process exited", re.IGNORECASE)
"""What gloo and NCCL say on losing a process."""


class RunConfig(SaveConfigCallback):
    """Writes the resolved configuration to ``config.yaml`` in the run's own folder."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Save once, on the first process; ``run`` is left out, so the file can be used again as it is."""
        if self.already_saved or not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        config = self.config.clone()
        config.run = None
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, EpisodeDataModule):  # what the protocol's name stands for, in full
            settings = config.data.init_args
            settings.update(
                Namespace(protocol=Namespace(asdict(data.protocol)), seed=data.seed, episodes=data.episodes)
            )
        self.parser.save(config, folder / "config.yaml", skip_none=False, overwrite=True, multifile=False)
        for logger in trainer.loggers:
            if isinstance(logger, Wandb):
                settings = yaml.safe_load((folder / "config.yaml").read_text())
                logger.describe({"settings": settings, **origin()})
        self.already_saved = True


class QGNetCLI(LightningCLI):
    """LightningCLI with a folder for each run, a checkpoint rule, and settings that beat the checkpoint's."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add ``--run`` and ``--checkpoint.*``."""
        parser.add_argument(
            "--run",
            type=str | None,
            default=None,
            help="Folder of this run, without one in it yet. Default: runs/<names of the YAMLs>/<fold, shots, seed>; "
            "for an evaluation a folder beside its checkpoint's run.",
        )
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.filename": "best",
                "checkpoint.monitor": "val/miou",
                "checkpoint.mode": "max",
            }
        )

    def _parse_ckpt_path(self) -> None:
        """Do not let a checkpoint's hyper-parameters override YAML and command line (Lightning's default).

        The weights of a checkpoint of another network are refused when they are loaded.
        """
        if self.config.get("subcommand"):
            config = self.config[self.config.subcommand]
            for setting in ("run", "ckpt_path"):
                if config.get(setting):
                    config[setting] = os.path.expanduser(config[setting])
            keywords = ("last",) if self.config.subcommand == "fit" else ("last", "best")
            if config.get("ckpt_path") in keywords:
                find_checkpoint(self.config.subcommand, config)
            path = config.get("ckpt_path")
            if path and not Path(path).is_file():
                raise InputError(
                    f"--ckpt_path is {path}, which does not exist. Give a checkpoint, e.g. "
                    "runs/<experiment>/<run>/checkpoints/best.ckpt."
                )

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """A Trainer whose files all go to the run's folder, its checkpoints whole or not at all."""
        config = self.config.get(str(self.subcommand), self.config)
        folder = run_folder(str(self.subcommand), config)
        plugins = self._get(self.config_init, "trainer")["plugins"] or []
        plugins = list(plugins) if isinstance(plugins, list | tuple) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            kwargs.setdefault("plugins", [*plugins, AtomicCheckpointIO()])
        kwargs.setdefault("default_root_dir", str(folder))
        if self._get(self.config_init, "trainer")["logger"] is not False:
            kwargs.setdefault("logger", self._loggers(folder))
        try:
            return super().instantiate_trainer(**kwargs)
        except (ValueError, RuntimeError, ImportError) as error:  # of an unknown strategy, a library it needs, …
            raise InputError(f"{error} Correct the --trainer.* settings.") from error

    def _loggers(self, folder: Path) -> list[Logger]:
        """CSV always and first, then those of the configuration."""
        keep_metrics(folder)
        configured = self._get(self.config_init, "trainer")["logger"]
        others = [] if configured in (None, True) else configured
        return [CSVLogger(folder, name="", version=""), *(others if isinstance(others, list) else [others])]

    def before_instantiate_classes(self) -> None:
        """Let loggers that would write to the current folder write to the run's."""
        if self.subcommand is None:
            return
        config = self.config[self.subcommand]
        if self.subcommand == "predict" and config.return_predictions is None:
            config.return_predictions = False  # callbacks write them; kept, they would fill the memory
        loggers = config.trainer.logger
        folder = run_folder(self.subcommand, config)
        for logger in loggers if isinstance(loggers, list) else [loggers]:
            if isinstance(logger, Namespace):
                require_package(logger.class_path)
            if isinstance(logger, Namespace) and logger.class_path == f"{Wandb.__module__}.{Wandb.__name__}":
                name_run(logger.init_args, self.subcommand, config, folder)
            elif isinstance(logger, Namespace) and logger.get("init_args.save_dir") in (None, "."):
                logger["init_args.save_dir"] = str(folder)

    def _run_subcommand(self, subcommand: str) -> None:
        """Run it; if that fails, end the processes that were started for it, which could wait for this one forever."""
        try:
            super()._run_subcommand(subcommand)
        except BaseException:
            launcher = self.trainer.strategy.launcher
            if launcher is not None:
                launcher.kill(signal.SIGKILL)
            raise

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[pl.Callback]) -> pl.Trainer:
        if config.get("fast_dev_run") or config.get("enable_checkpointing") is False:
            callbacks = [c for c in callbacks if not isinstance(c, ModelCheckpoint)]
        own: list[pl.Callback] = [FiniteLoss(), Requeue()]
        if any(isinstance(c, ModelCheckpoint) for c in callbacks):  # `save_last` only follows `best`'s improvements
            last = ModelCheckpoint(filename="last", monitor=None, save_on_train_epoch_end=True)
            own.append(last)
        if isinstance(self.model, EpisodicTask):
            own += [EpisodePictures(), ControlPictures(), TestResults(), MaskWriter(), Dashboard()]
        elif isinstance(self.model, GlobalLocalPretraining):
            own += [ViewPictures(), DescriptorWriter(), Dashboard()]
        if config["logger"] is not False and not config.get("fast_dev_run"):
            own += [LearningRateMonitor("step"), Throughput()]
        return super()._instantiate_trainer(config, callbacks + own)


def build(args: ArgsType, run: bool) -> QGNetCLI:
    """Parse and instantiate; with ``run`` also carry out the subcommand."""
    return QGNetCLI(
        Task,
        BaseDataModule,
        save_config_callback=RunConfig,
        seed_everything_default=SEED,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        parser_kwargs={"prog": "lightning", "description": DESCRIPTION},
        args=args,
        run=run,
    )


def parse(args: Sequence[str]) -> tuple[Any, Any]:
    """The task and the DataModule of a command line without subcommand, e.g. ``["--config", "x.yaml"]``."""
    cli = build(list(args), run=False)
    return cli.model, cli.datamodule


def main(args: ArgsType = None) -> None:
    """The command; a user's mistake ends it with a message and exit code 2."""
    try:
        build(args, run=True)
    except Exception as error:
        mistake = users_mistake(error)
        if mistake is None:
            raise
        fail(mistake)


def users_mistake(error: BaseException | None) -> InputError | None:
    """The InputError behind an exception, if there is one: jsonargparse wraps what a constructor raises.

    What Lightning and torch say of a Trainer that this machine cannot have is one, too.
    """
    while error is not None:
        if isinstance(error, InputError):
            return error
        if isinstance(error, MisconfigurationException):  # more devices than there are, an unknown strategy, …
            return InputError(f"{error} Correct the --trainer.* settings.")
        if isinstance(error, DistNetworkError):
            return InputError(
                f"The processes could not find each other: {error} If the port is taken, choose another: "
                "MASTER_PORT=29511 lightning …"
            )
        if isinstance(error, RuntimeError) and LOST.search(str(error)):
            return InputError(
                f"Another process of this run has ended, and this one cannot go on: {error} Its message says why. "
                "What was saved is whole; go on with --ckpt_path last."
            )
        error = error.__cause__ or error.__context__
    return None
