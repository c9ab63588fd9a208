"""The folders that runs leave their files in: ``runs/<experiment>/<fold, shots, seed>/``."""

import re
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from datamodules.errors import InputError
from datamodules.protocols import Protocol, default_seed

RUNS = Path("runs")
SEED = 321
"""PFENet's and QGNet's seed."""


def run_folder(subcommand: str, config: Namespace) -> Path:
    """Where this run's files go: a folder that holds no run yet.

    Raises:
        InputError: if ``--run`` names a folder with a run in it.
    """
    if config.run:
        if (Path(config.run) / "config.yaml").exists():
            raise InputError(f"--run {config.run} already holds a run. Choose another folder, or remove that one.")
        return Path(config.run)
    settings = config.data.get("init_args", Namespace())
    if settings.get("seed", 0) is None:
        settings = settings.clone()
        settings.seed = default_seed(Protocol(**settings.protocol.as_dict()))
    details = [f"{key}{settings[key]}" for key in ("fold", "seed") if key in settings]
    if "shots" in settings:
        details.insert(1, f"{settings.shots}shot")
    checkpoint = config.get("ckpt_path")
    if subcommand != "fit" and checkpoint:
        base = checkpoint_run(Path(checkpoint)) / "-".join([subcommand, *details, Path(checkpoint).stem])
    else:
        if subcommand not in ("fit", "None"):
            details.insert(0, subcommand)
        if config.seed_everything != SEED:
            details.append(f"init{config.seed_everything}")
        base = experiment_folder(config) / "-".join(details)
    folder, count = base, 1
    while (folder / "config.yaml").exists():
        count += 1
        folder = base.with_name(f"{base.name}-{count}")
    return folder


def checkpoint_run(checkpoint: Path) -> Path:
    """The run's folder that a checkpoint lies in."""
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def experiment_folder(config: Namespace) -> Path:
    """``runs/<names of the YAMLs>``, loggers left out; for the config.yaml of a run, that run's experiment."""
    files = [Path(str(file)) for file in config.get("config") or [] if file is not None]
    if not files:
        return RUNS / "unnamed"
    if files[0].name == "config.yaml":
        return files[0].parent.parent
    return RUNS / "-".join(file.stem for file in files if file.parent.name != "logging")


def training_of(run: Path) -> dict[str, Any]:
    """What a run's folder says of its training: ``experiment``, ``seed``, ``data_seed`` and ``shots``.

    The last three are None if there is no ``config.yaml`` in it, as for imported weights.
    """
    training: dict[str, Any] = {"experiment": experiment_name(run), "seed": None, "data_seed": None, "shots": None}
    config = run / "config.yaml"
    if config.exists():
        settings = yaml.safe_load(config.read_text())
        data = settings["data"]["init_args"]
        training |= {"seed": settings["seed_everything"], "data_seed": data.get("seed"), "shots": data.get("shots")}
    return training


def experiment_name(run: Path) -> str:
    """The name of the folder above one that `run_folder` named; the name of any other is its own."""
    run = run.resolve()
    return run.parent.name if re.match(r"((test|validate|predict)-)?(fold|seed)\d", run.name) else run.name
