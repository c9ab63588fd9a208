"""The folders that runs leave their files in: ``runs/<experiment>/<fold, shots, seed>/``."""

import re
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from pytorch_lightning.utilities import rank_zero_only

from datamodules.errors import InputError
from datamodules.protocols import Protocol, default_seed

RUNS = Path("runs")
LAST = Path("checkpoints/last.ckpt")
BEST = Path("checkpoints/best.ckpt")
SIGNAL = "hpc_ckpt_*.ckpt"
"""Lightning's names of the checkpoints that it writes into a run's folder at SLURM's signal."""
SEED = 321
"""PFENet's and QGNet's seed."""


def run_folder(subcommand: str, config: Namespace) -> Path:
    """Where this run's files go: a folder that holds no run yet, or the one whose training goes on.

    Raises:
        InputError: if ``--run`` names a folder with another run in it.
    """
    if config.run:
        folder = Path(config.run)
        if (folder / "config.yaml").exists() and not (subcommand == "fit" and goes_on(config, folder)):
            other = "go on with it by --ckpt_path last" if subcommand == "fit" else "leave --run out"
            raise InputError(f"--run {folder} already holds a run. Choose another folder, remove that one, or {other}.")
        return folder
    base = planned_folder(subcommand, config)
    folder, count = base, 1
    while (folder / "config.yaml").exists():
        count += 1
        folder = base.with_name(f"{base.name}-{count}")
    return folder


def goes_on(config: Namespace, folder: Path) -> bool:
    """Whether the checkpoint to start from is this folder's own."""
    checkpoint = config.get("ckpt_path")
    return bool(checkpoint) and checkpoint_run(Path(checkpoint)).resolve() == folder.resolve()


def find_checkpoint(subcommand: str, config: Namespace) -> None:
    """Turn ``--ckpt_path last`` or ``best`` into that checkpoint of the newest training named like this one.

    That is one with the same configuration files, fold, shots and seeds. A training goes on in its folder, which
    ``--run`` may name instead; of a test, ``--run`` names where its own files go.

    Raises:
        InputError: if there is none.
    """
    name, run = config.ckpt_path, config.run if subcommand == "fit" else None
    base = Path(run) if run else planned_folder("fit", config)
    folders = [base] if run else [base, *base.parent.glob(f"{base.name}-[0-9]*")]
    patterns = [LAST, SIGNAL] if name == "last" else [BEST]
    found = [path for folder in folders for pattern in patterns for path in folder.glob(str(pattern))]
    if not found:
        way = "Start without it, or name the run's folder with --run" if subcommand == "fit" else "Give the file itself"
        raise InputError(f"--ckpt_path {name} finds no {patterns[0]} in {base}. {way}.")
    newest = max(found, key=lambda path: path.stat().st_mtime)
    config.ckpt_path = str(newest)
    if subcommand == "fit":
        config.run = str(checkpoint_run(newest))


def planned_folder(subcommand: str, config: Namespace) -> Path:
    """The folder named after experiment, fold, shots and seed, whether there is one yet or not."""
    settings = config.data.get("init_args", Namespace())
    if settings.get("seed", 0) is None and "protocol" in settings:
        settings = settings.clone()
        settings.seed = default_seed(Protocol(**settings.protocol.as_dict()))
    details = [f"{key}{settings[key]}" for key in ("fold", "seed") if key in settings]
    if "shots" in settings:
        details.insert(1, f"{settings.shots}shot")
    checkpoint = config.get("ckpt_path")
    if subcommand != "fit" and checkpoint:
        return checkpoint_run(Path(checkpoint)) / "-".join([subcommand, *details, Path(checkpoint).stem])
    if subcommand not in ("fit", "None"):
        details.insert(0, subcommand)
    if config.seed_everything != SEED:
        details.append(f"init{config.seed_everything}")
    return experiment_folder(config) / "-".join(details)


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


@rank_zero_only
def keep_metrics(folder: Path) -> None:
    """Set a folder's ``metrics.csv`` aside as ``metrics-1.csv``, -2 …: the logger of a run that goes on begins anew."""
    metrics = folder / "metrics.csv"
    if metrics.exists():
        number = 1 + len(list(folder.glob("metrics-*.csv")))
        metrics.rename(folder / f"metrics-{number}.csv")
