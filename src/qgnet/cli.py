"""The ``lightning`` command: fit, validate, test and predict, configured by YAML and command line."""

import signal
import sys
import warnings
from argparse import SUPPRESS
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytorch_lightning as pl
import yaml
from jsonargparse import Namespace, get_loader, set_loader
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint, ProgressBar
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.plugins.io import CheckpointIO

import datamodules
from datamodules.base import BaseDataModule
from qgnet.callbacks.announce import Announce
from qgnet.callbacks.begin import Begin, NoLogger
from qgnet.callbacks.control_figures import ControlFigures
from qgnet.callbacks.descriptors import DescriptorWriter
from qgnet.callbacks.episode_figures import EpisodeFigures
from qgnet.callbacks.finite import FiniteLoss
from qgnet.callbacks.log_progress import progress_bar
from qgnet.callbacks.moved import MovedCheckpoints
from qgnet.callbacks.predictions import MaskWriter
from qgnet.callbacks.requeue import Requeue
from qgnet.callbacks.results import TestResults
from qgnet.callbacks.throughput import Throughput
from qgnet.callbacks.view_figures import ViewFigures
from qgnet.common.boundary import boundary
from qgnet.common.errors import InputError
from qgnet.common.paths import expanded
from qgnet.common.renamed import renamed, renamed_options
from qgnet.common.settings import Range, check
from qgnet.common.terminal import quiet
from qgnet.common.text import read_yaml, refuse_loops
from qgnet.config.own_config import with_own_config
from qgnet.config.protocol_layers import CONFIG_OPTIONS, config_option, name_decides
from qgnet.loggers.dashboard import Dashboard
from qgnet.loggers.naming import name_run
from qgnet.loggers.wandb import Wandb, require_package
from qgnet.runs.folders import SEED, find_checkpoint, planned_folder, run_folder
from qgnet.runs.seeds import print_tables, take_first_seed
from qgnet.runs.trainer import Trainer, checked_trainer
from qgnet.start import DESCRIPTION
from qgnet.tasks.base import Task
from qgnet.tasks.episodic import EpisodicTask
from qgnet.tasks.matching import SupportMatching  # noqa: F401  (named in YAML)
from qgnet.tasks.pretraining import GlobalLocalPretraining
from qgnet.tasks.segmentation import FewShotSegmentation  # noqa: F401  (named in YAML)
from qgnet.weights.checkpoints import AtomicCheckpointIO

for name in datamodules.__all__:  # imported, its classes can be named without their module in YAML
    getattr(datamodules, name)

as_written = get_loader("yaml")


def read_setting(text: str) -> Any:
    """A YAML's content, or an option's value, by the names of today; YAMLError if it contains itself."""
    refuse_loops(text)
    return renamed(as_written(text))


set_loader("yaml", read_setting, exceptions=(yaml.YAMLError,))

PATHS = {"run", "ckpt_path", "root", "list_file", "mask_root", "mask_list", "region_cache", "episode_file"}
PATHS |= {"encoder_weights", "prior_weights", "prior_bank", "default_root_dir", "save_dir", "dirpath"}
"""Settings that are paths (or words like ``imagenet``, which stay as they are)."""
RUN_RANGES = {"seed_everything": [Range(0, 2**32 - 1)]}
TRAINER_RANGES = {
    "accumulate_grad_batches": [Range(1)],
    "check_val_every_n_epoch": [Range(1)],
    "val_check_interval": [Range(above=0)],
    "log_every_n_steps": [Range(0)],
    "num_sanity_val_steps": [Range(-1)],
    "num_nodes": [Range(1)],
    "gradient_clip_val": [Range(0)],
    "overfit_batches": [Range(0)],
    "reload_dataloaders_every_n_epochs": [Range(0)],
}
"""What Lightning itself does not look at."""


class QGNetCLI(LightningCLI):
    """LightningCLI with a folder for each run, a checkpoint rule, and settings that beat the checkpoint's."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add ``--run``, ``--allow_trained_classes``, ``--all_seeds`` and ``--checkpoint.*``."""
        parser.add_argument(
            "--run",
            type=str | None,
            default=None,
            help="Folder of this run, without one in it yet. Default: runs/<names of the YAMLs>/<fold, shots, seed>; "
            "for an evaluation a folder beside its checkpoint's run.",
        )
        parser.add_argument(
            "-v",
            "--verbose",
            action="store_true",
            help="Show also what Lightning and loggers tell of themselves, and where warnings come from.",
        )
        parser.add_argument(
            "--allow_trained_classes",
            type=bool,
            default=False,
            help="Test on classes that the checkpoint was trained on; results.json and qgnet report then say so.",
        )
        parser.add_argument(
            "--all_seeds",
            type=bool,
            default=False,
            help="Of lightning test: a test with each of the protocol's seeds in turn, then mean ± deviation.",
        )
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.filename": "best",
                "checkpoint.monitor": "val/miou",
                "checkpoint.mode": "max",
            }
        )

    def setup_parser(self, add_subcommands: bool, *args: Any) -> None:
        """Without a subcommand, a run's own ``config.yaml`` is taken, too: what only a subcommand needs is not used."""
        super().setup_parser(add_subcommands, *args)
        if not add_subcommands:
            for name in ("ckpt_path", "weights_only"):
                self.parser.add_argument(f"--{name}", type=Any, default=None, help=SUPPRESS)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's, without its own ``--verbose`` of a test and a validation: a table of every class's score."""
        return {name: {*skipped, "verbose"} for name, skipped in LightningCLI.subcommands().items()}

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; a protocol's name given on top stands for its choices, ``~`` and ``$VARIABLES`` in paths are replaced.

        From then on keep quiet unless asked not to.
        """
        arguments = sys.argv[1:] if args is None else args
        assert not isinstance(arguments, dict | Namespace)
        self.config = parser.parse_args(name_decides(renamed_options(arguments)))
        expand_paths(self.config)
        if not self.config.get(str(self.config.get("subcommand")), self.config).verbose:
            quiet()

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        options = super()._prepare_subcommand_kwargs(subcommand)
        if subcommand in ("validate", "test"):
            options["verbose"] = self.config[subcommand].verbose
        return options

    def _parse_ckpt_path(self) -> None:
        """Do not let a checkpoint's hyper-parameters override YAML and command line (Lightning's default).

        The weights of a checkpoint of another network are refused when they are loaded.
        """
        if self.config.get("subcommand"):
            config = self.config[self.config.subcommand]
            check(RUN_RANGES, config, "")
            check(TRAINER_RANGES, config.trainer, "trainer")
            if config.get("run") and Path(config.run).exists() and not Path(config.run).is_dir():
                raise InputError(f"--run is {config.run}, which is no folder. Name one, or one to be made.")
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
        folder = self.folder if self.subcommand else planned_folder("None", self.config)
        plugins = self._get(self.config_init, "trainer")["plugins"] or []
        plugins = list(plugins) if isinstance(plugins, list | tuple) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            kwargs.setdefault("plugins", [*plugins, AtomicCheckpointIO()])
        kwargs.setdefault("default_root_dir", str(folder))
        self.loggers = self._loggers(folder)
        kwargs["logger"] = [NoLogger(folder)] if self.loggers else False  # `Begin` puts them into its place
        kwargs["enable_autolog_hparams"] = False  # `Begin` does it
        make = partial(super().instantiate_trainer, **kwargs)
        return checked_trainer(make, "{} Correct the --trainer.* settings.", "--trainer.num_nodes")

    def _loggers(self, folder: Path) -> list[Logger]:
        """CSV first, then those of the configuration; none at all for ``false``."""
        configured = self._get(self.config_init, "trainer")["logger"]
        if configured is False:
            return []
        others = [] if configured in (None, True) else configured
        return [CSVLogger(folder, name="", version=""), *(others if isinstance(others, list) else [others])]

    def before_instantiate_classes(self) -> None:
        """Let loggers that would write to the current folder write to the run's."""
        if self.subcommand is None:
            return
        config = self.config[self.subcommand]
        self.further_tests = take_first_seed(self.subcommand, config) if config.all_seeds else []
        if self.subcommand == "predict" and config.return_predictions is None:
            config.return_predictions = False  # callbacks write them; kept, they would fill the memory
        given = config.trainer.logger
        loggers = [one for one in (given if isinstance(given, list) else [given]) if isinstance(one, Namespace)]
        for logger in loggers:
            require_package(logger.class_path)
        self.folder, self.identity = run_folder(self.subcommand, config)
        self.settings = config.clone()  # without the names of this run's loggers, which are not those of its tests
        for logger in loggers:
            if issubclass(resolve_name(logger.class_path), Wandb):
                name_run(logger.init_args, self.subcommand, config, self.folder)
            elif logger.get("init_args.save_dir") in (None, "."):
                logger["init_args.save_dir"] = str(self.folder)

    def instantiate_classes(self) -> None:
        """As Lightning; a run that cannot begin leaves no folder behind."""
        try:
            super().instantiate_classes()
            self.model.check_data(self.datamodule)
        except BaseException:
            if self.subcommand:
                self.identity.release()
            raise

    def _run_subcommand(self, subcommand: str) -> None:
        """Run it; if that fails, end the processes that were started for it, which could wait for this one forever."""
        if isinstance(self.model, EpisodicTask):
            self.model.allow_trained_classes = self.config[subcommand].allow_trained_classes
        try:
            super()._run_subcommand(subcommand)
        except BaseException:
            self.identity.release()
            launcher = self.trainer.strategy.launcher
            if launcher is not None:
                launcher.kill(signal.SIGKILL)
            raise
        finally:
            self.identity.end()

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[pl.Callback]) -> pl.Trainer:
        if config.get("fast_dev_run") or config.get("enable_checkpointing") is False:
            callbacks = [c for c in callbacks if not isinstance(c, ModelCheckpoint)]
        if not config.get("fast_dev_run"):
            settings = self.settings if self.subcommand else self.config
            callbacks = [Begin(self._parser(self.subcommand), settings, self.loggers), *callbacks]
        own: list[pl.Callback] = [Announce(), FiniteLoss(), MovedCheckpoints(), Requeue()]
        if config.get("enable_progress_bar") is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            own.append(progress_bar())
        if any(isinstance(c, ModelCheckpoint) for c in callbacks):  # `save_last` only follows `best`'s improvements
            last = ModelCheckpoint(
                filename="last", monitor=None, save_on_train_epoch_end=True, enable_version_counter=False
            )
            own.append(last)
        if isinstance(self.model, EpisodicTask):
            own += [EpisodeFigures(), ControlFigures(), TestResults(), MaskWriter(), Dashboard()]
        elif isinstance(self.model, GlobalLocalPretraining):
            own += [ViewFigures(), DescriptorWriter(), Dashboard()]
        if config["logger"] is not False and not config.get("fast_dev_run"):
            own += [LearningRateMonitor("step"), Throughput()]
        return super()._instantiate_trainer(config, callbacks + own)


def expand_paths(settings: Any) -> None:
    """Replace ``~`` and ``$VARIABLES`` in all settings that are paths, in those of loggers and callbacks too."""
    for value in settings if isinstance(settings, list) else []:
        expand_paths(value)
    for name, value in list(vars(settings).items()) if isinstance(settings, Namespace) else []:
        if name in PATHS and isinstance(value, str):
            settings[name] = str(expanded(value)) if "~" in value or "$" in value else value
        else:
            expand_paths(value)


def build(args: ArgsType, run: bool, prog: str = "lightning") -> QGNetCLI:
    """Parse and instantiate; with ``run`` also carry out the subcommand. ``prog`` is the command's name in its help."""
    return QGNetCLI(
        Task,
        BaseDataModule,
        trainer_class=Trainer,
        save_config_callback=None,  # `Begin` does it
        seed_everything_default=SEED,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        parser_kwargs={"prog": prog, "description": DESCRIPTION},
        args=args,
        run=run,
    )


def parse(args: Sequence[str]) -> tuple[Any, Any]:
    """The task and the DataModule of a command line without subcommand, e.g. ``["--config", "x.yaml"]``."""
    check_files(args)
    cli = build(list(args), run=False)
    return cli.model, cli.datamodule


def main(args: Sequence[str] | None = None, prog: str = "lightning") -> None:
    """The command; see :func:`qgnet.common.boundary.boundary` for how it ends."""
    with boundary("What was saved is whole; a training goes on with --ckpt_path last."):
        given = with_own_config(sys.argv[1:] if args is None else args)
        check_files(given)
        with warnings.catch_warnings():
            first = build(given, run=True, prog=prog)
            folders = [first.folder, *(build([*given, *more], run=True).folder for more in first.further_tests)]
        if first.further_tests and first.trainer.is_global_zero:
            print_tables(folders)


def check_files(args: Sequence[str]) -> None:
    """InputError for a YAML among the arguments that :func:`qgnet.common.text.read_yaml` refuses."""
    for before, argument in zip(["", *args], args, strict=False):
        path = Path(argument.rpartition("=")[2])
        is_config = before in CONFIG_OPTIONS or config_option(argument)
        if (is_config or path.suffix in (".yaml", ".yml")) and path.is_file():
            read_yaml(path)
