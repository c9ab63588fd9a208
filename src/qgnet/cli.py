"""The ``lightning`` command: fit, validate, test and predict, configured by YAML and command line."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import Namespace
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.loggers import CSVLogger, Logger

import datamodules  # noqa: F401  (its classes can be named without their module in YAML)
from datamodules.base import BaseDataModule, EpisodeDataModule
from datamodules.errors import InputError
from qgnet.callbacks.descriptors import DescriptorWriter
from qgnet.callbacks.finite import FiniteLoss
from qgnet.callbacks.pictures import EpisodePictures, ViewPictures
from qgnet.callbacks.predictions import MaskWriter
from qgnet.callbacks.results import TestResults
from qgnet.callbacks.throughput import Throughput
from qgnet.runs import SEED, run_folder
from qgnet.tasks.base import Task
from qgnet.tasks.pretraining import GlobalLocalPretraining
from qgnet.tasks.segmentation import FewShotSegmentation


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
            path = self.config[self.config.subcommand].get("ckpt_path")
            if path and path not in ("best", "last", "hpc", "registry") and not Path(path).is_file():
                raise InputError(
                    f"--ckpt_path is {path}, which does not exist. Give a checkpoint, e.g. "
                    "runs/<experiment>/<run>/checkpoints/best.ckpt."
                )

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """A Trainer whose files all go to the run's folder."""
        config = self.config.get(str(self.subcommand), self.config)
        folder = run_folder(str(self.subcommand), config)
        kwargs.setdefault("default_root_dir", str(folder))
        if self._get(self.config_init, "trainer")["logger"] is not False:
            kwargs.setdefault("logger", self._loggers(folder))
        return super().instantiate_trainer(**kwargs)

    def _loggers(self, folder: Path) -> list[Logger]:
        """CSV always and first, then those of the configuration."""
        configured = self._get(self.config_init, "trainer")["logger"]
        others = [] if configured in (None, True) else configured
        return [CSVLogger(folder, name="", version=""), *(others if isinstance(others, list) else [others])]

    def before_instantiate_classes(self) -> None:
        """Let loggers that would write to the current folder write to the run's."""
        if self.subcommand is None:
            return
        config = self.config[self.subcommand]
        loggers = config.trainer.logger
        for logger in loggers if isinstance(loggers, list) else [loggers]:
            if isinstance(logger, Namespace) and logger.get("init_args.save_dir") in (None, "."):
                logger["init_args.save_dir"] = str(run_folder(self.subcommand, config))

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[pl.Callback]) -> pl.Trainer:
        if config.get("fast_dev_run") or config.get("enable_checkpointing") is False:
            callbacks = [c for c in callbacks if not isinstance(c, ModelCheckpoint)]
        own: list[pl.Callback] = [FiniteLoss()]
        if any(isinstance(c, ModelCheckpoint) for c in callbacks):  # `save_last` only follows `best`'s improvements
            last = ModelCheckpoint(filename="last", monitor=None, save_on_train_epoch_end=True)
            own.append(last)
        if isinstance(self.model, FewShotSegmentation):
            own += [EpisodePictures(), TestResults(), MaskWriter()]
        elif isinstance(self.model, GlobalLocalPretraining):
            own += [ViewPictures(), DescriptorWriter()]
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
        parser_kwargs={"prog": "lightning", "description": "Train, test and apply QGNet."},
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
    """The InputError behind an exception, if there is one: jsonargparse wraps what a constructor raises."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error


def fail(mistake: InputError) -> None:
    """Print what the user did wrong and exit with 2; a loader process's traceback around it is cut off."""
    message = str(mistake).rsplit("InputError: ", 1)[-1].strip()
    print(f"\nerror: {message}", file=sys.stderr)
    sys.exit(2)
