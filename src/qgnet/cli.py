"""Training and testing: the ``lightning`` command, and the same from Python."""

import json
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pytorch_lightning as pl
from jsonargparse import Namespace
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint, ProgressBar
from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.plugins.io import CheckpointIO

from datamodules.episodic import EpisodeDataModule
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
from qgnet.common.mistakes import users_mistake
from qgnet.common.terminal import is_first, restored
from qgnet.config import SUBCOMMANDS
from qgnet.config.command_line import CommandLine, check_places
from qgnet.config.layers import subcommand_first, with_own_config
from qgnet.loggers.dashboard import Dashboard
from qgnet.loggers.naming import name_run
from qgnet.loggers.wandb import Wandb, require_package
from qgnet.runs.folders import run_folder
from qgnet.runs.seeds import print_tables, take_first_seed
from qgnet.runs.trainer import Trainer, checked_trainer
from qgnet.tasks.base import Task
from qgnet.tasks.episodic import EpisodicTask
from qgnet.tasks.pretraining import GlobalLocalPretraining
from qgnet.weights.checkpoints import AtomicCheckpointIO


@dataclass(frozen=True)
class Run:
    """What a run has left.

    Args:
        folder: of its files: ``config.yaml``, checkpoints, ``results.json``, figures.
        scores: name → the last value that was logged, such as ``test/miou``.
    """

    folder: Path
    scores: dict[str, float]


def main(args: Sequence[str] | None = None, prog: str = "lightning") -> None:
    """The command; see :func:`qgnet.common.boundary.boundary` for how it ends."""
    with boundary("What was saved is whole; a training goes on with --ckpt_path last."):
        run(sys.argv[1:] if args is None else args, prog)


def train(*configs: str | Path, **settings: Any) -> Run:
    """Train as ``lightning fit`` does: ``qgnet.train("my.yaml", data={"fold": 1}, run="runs/mine")``.

    Args:
        configs: YAML files, later ones on top.
        settings: those of the command line, nested: ``trainer``, ``model``, ``data``, ``checkpoint``, ``run``,
            ``ckpt_path`` of a training to resume, ….

    Raises:
        InputError: for what the user gave and cannot be used.
    """
    with mistakes_as_errors():
        return run(["fit", *as_arguments(configs, settings)])


def test(*configs: str | Path, **settings: Any) -> Run:
    """Test as ``lightning test`` does: ``qgnet.test(ckpt_path=run.folder / "checkpoints/best.ckpt").scores``.

    Args:
        configs: as of :func:`train`; none for what the checkpoint was trained with.
        settings: as of :func:`train`. With ``all_seeds`` the first seed's run is returned; the others lie beside it.

    Raises:
        InputError: for what the user gave and cannot be used.
    """
    with mistakes_as_errors():
        return run(["test", *as_arguments(configs, settings)])


def parse(arguments: Sequence[str]) -> tuple[Any, Any]:
    """The task and the DataModule of a command line without subcommand, e.g. ``["--config", "x.yaml"]``."""
    made = CommandLine("fit", arguments).instantiate()
    made.model.check_data(made.data)
    return made.model, made.data


def run(arguments: Sequence[str], prog: str = "lightning") -> Run:
    """Carry out a command line; with ``--all_seeds`` one run per seed, of which the first is returned."""
    arguments = subcommand_first(arguments)
    if arguments[0] not in SUBCOMMANDS:
        raise InputError(f"{arguments[0]!r} is no subcommand. Expected one of {', '.join(SUBCOMMANDS)}.")
    name, *given = with_own_config(arguments)
    with restored():
        line = CommandLine(name, given, prog)
        check_places(name, line.config)
        further = take_first_seed(name, line.config) if line.config.all_seeds else []
        runs = [carry_out(line)]
        for more in further:
            line = CommandLine(name, [*given, *more], prog)
            check_places(name, line.config)
            runs.append(carry_out(line))
    if further and is_first():
        print_tables([each.folder for each in runs])
    return runs[0]


def carry_out(line: CommandLine) -> Run:
    """Make the run's folder, then Trainer, task and data, and run; a run that cannot begin leaves no folder."""
    name, config = line.name, line.config
    if name == "predict" and config.return_predictions is None:
        config.return_predictions = False  # callbacks write them; held, they would fill the memory
    given = config.trainer.logger
    loggers = [one for one in (given if isinstance(given, list) else [given]) if isinstance(one, Namespace)]
    for logger in loggers:
        require_package(logger.class_path)
    folder, identity = run_folder(name, config)
    settings = config.clone()  # without the names of this run's loggers, which are not those of its tests
    trainer = None
    try:
        name_loggers(loggers, name, config, folder)
        made = line.instantiate()
        task: Task = made.model
        trainer = make_trainer(made, folder, partial(Begin, line.parser, settings))
        task.check_data(made.data)
        if isinstance(task, EpisodicTask):
            task.allow_trained_classes = config.allow_trained_classes
        getattr(trainer, name)(task, datamodule=made.data, **line.method_options())
    except BaseException:
        identity.release()
        if trainer is not None and trainer.strategy.launcher is not None:
            trainer.strategy.launcher.kill(signal.SIGKILL)  # processes of a failed run could wait for this one forever
        raise
    finally:
        identity.end()
    return Run(folder, {key: float(value) for key, value in trainer.callback_metrics.items()})


def name_loggers(loggers: Sequence[Namespace], subcommand: str, config: Namespace, folder: Path) -> None:
    """Let loggers that would write to the current folder write to the run's."""
    for logger in loggers:
        if issubclass(resolve_name(logger.class_path), Wandb):
            name_run(logger.init_args, subcommand, config, folder)
        elif logger.get("init_args.save_dir") in (None, "."):
            logger["init_args.save_dir"] = str(folder)


def make_trainer(made: Namespace, folder: Path, begin: partial[Begin]) -> pl.Trainer:
    """A Trainer whose files all go to the run's folder, its checkpoints whole or not at all.

    What the settings describe is ``made``; ``begin`` makes the callback that begins the run, from its loggers.
    """
    settings = {**made.trainer}
    loggers = make_loggers(settings["logger"], folder)
    plugins = as_list(settings["plugins"])
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        settings["plugins"] = [*plugins, AtomicCheckpointIO()]
    settings["callbacks"] = as_list(settings["callbacks"]) + make_callbacks(made, begin(loggers))
    settings["default_root_dir"] = str(folder)
    settings["logger"] = [NoLogger(folder)] if loggers else False  # `Begin` puts them into its place
    settings["enable_autolog_hparams"] = False  # `Begin` does it
    make = partial(Trainer, **settings)
    return checked_trainer(make, "{} Correct the --trainer.* settings.", "--trainer.num_nodes")


def make_loggers(configured: Any, folder: Path) -> list[Logger]:
    """CSV first, then those of the configuration; none at all for ``false``."""
    if configured is False:
        return []
    others = [] if configured is True else as_list(configured)
    return [CSVLogger(folder, name="", version=""), *others]


def make_callbacks(made: Namespace, begin: Begin) -> list[pl.Callback]:
    """This project's own, besides those of the configuration."""
    settings, task = made.trainer, made.model
    callbacks: list[pl.Callback] = [] if settings.fast_dev_run else [begin]
    saves = not settings.fast_dev_run and settings.enable_checkpointing is not False
    all_classes = isinstance(made.data, EpisodeDataModule) and made.data.fold is None
    validates = settings.limit_val_batches != 0 and not all_classes
    if saves and (validates or not (made.checkpoint.monitor or "").startswith("val/")):
        callbacks.append(made.checkpoint)
    callbacks += [Announce(), FiniteLoss(), MovedCheckpoints(), Requeue()]
    shown = any(isinstance(callback, ProgressBar) for callback in as_list(settings.callbacks))
    if settings.enable_progress_bar is not False and not shown:
        callbacks.append(progress_bar())
    if saves:  # `save_last` only follows `best`'s improvements
        callbacks.append(
            ModelCheckpoint(filename="last", monitor=None, save_on_train_epoch_end=True, enable_version_counter=False)
        )
    if isinstance(task, EpisodicTask):
        callbacks += [EpisodeFigures(), ControlFigures(), TestResults(), MaskWriter(), Dashboard()]
    elif isinstance(task, GlobalLocalPretraining):
        callbacks += [ViewFigures(), DescriptorWriter(), Dashboard()]
    if begin.loggers and not settings.fast_dev_run:
        callbacks += [LearningRateMonitor("step"), Throughput()]
    return callbacks


def as_list(value: Any) -> list[Any]:
    """One, several or none of something as a list."""
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def as_arguments(configs: Sequence[str | Path], settings: Mapping[str, Any], prefix: str = "--") -> Iterator[str]:
    """The command line that files and nested settings stand for; InputError for an object that no text stands for."""
    yield from (f"--config={file}" for file in configs)
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from as_arguments((), value, f"{prefix}{name}.")
        elif isinstance(value, str | Path):
            yield f"{prefix}{name}={value}"
        else:
            try:
                yield f"{prefix}{name}={json.dumps(value, default=as_plain)}"
            except TypeError:
                raise InputError(
                    f"{prefix.removeprefix('--')}{name} is {value!r}; expected text, numbers, and lists and dicts of "
                    "them. Describe an object as in YAML: {'class_path': …, 'init_args': {…}}."
                ) from None


def as_plain(value: Any) -> Any:
    """What JSON has for a path or a number of NumPy."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError


@contextmanager
def mistakes_as_errors() -> Iterator[None]:
    """InputError for what the commands report without a traceback."""
    try:
        yield
    except Exception as error:
        mistake = users_mistake(error)
        if mistake is None or mistake is error:
            raise
        raise mistake from error
