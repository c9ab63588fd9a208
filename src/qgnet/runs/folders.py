"""The folders of runs: ``runs/<experiment>/<fold, shots, seed>/``."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from pytorch_lightning.utilities import rank_zero_only

from datamodules.datasets.protocols import Protocol, default_seed
from qgnet.common.errors import InputError
from qgnet.common.text import read_yaml
from qgnet.runs.identity import CHECKPOINTS, Identity, read_identity

RUNS = Path("runs")
LAST = Path(CHECKPOINTS) / "last.ckpt"
CONFIG = "config.yaml"
BEST = Path(CHECKPOINTS) / "best.ckpt"
SIGNAL = "hpc_ckpt_*.ckpt"
"""Lightning's names of the checkpoints that it writes into a run's folder at SLURM's signal."""
SEED = 321
"""PFENet's and QGNet's seed."""


def run_folder(subcommand: str, config: Namespace) -> tuple[Path, Identity]:
    """Claim a folder for this run: one without a run, or that of the training to resume."""
    identity = Identity(identify(subcommand, config))
    if config.run:
        folder = Path(config.run)
        if subcommand == "fit" and resumes(config, folder):
            config.ckpt_path = str(folder / place_in_run(Path(config.ckpt_path))[1])  # one path for one file
            identity.resume(folder)
        elif holds_run(folder) or not identity.claim(folder):
            other = "go on with it by --ckpt_path last" if subcommand == "fit" else "leave --run out"
            raise InputError(f"--run {folder} already holds a run. Choose another folder, remove that one, or {other}.")
        return folder, identity
    base = planned_folder(subcommand, config)
    folder, count = base, 1
    while holds_run(folder) or not identity.claim(folder):
        count += 1
        folder = base.with_name(f"{base.name}-{count}")
    return folder, identity


def holds_run(folder: Path) -> bool:
    """Whether a run has started in a folder; a checkpoint without a configuration counts too."""
    return (folder / CONFIG).exists() or any((folder / CHECKPOINTS).glob("*.ckpt"))


def identify(subcommand: str, config: Namespace) -> dict[str, Any]:
    """What a run is, see `Identity`. A folder of another name than the planned one is an experiment of its own."""
    planned, settings = planned_folder(subcommand, config), data_settings(config)
    checkpoint = config.get("ckpt_path")
    chosen = Path(config.run).resolve() if config.run else None
    if chosen is not None:
        experiment = chosen.parent.name if chosen.name == planned.name else chosen.name
    elif subcommand != "fit" and checkpoint:
        experiment = experiment_name(checkpoint_run(Path(checkpoint)))
    else:
        experiment = planned.absolute().parent.name
    return {
        "experiment": experiment,
        "subcommand": subcommand,
        "fold": settings.get("fold"),
        "shots": settings.get("shots"),
        "data_seed": settings.get("seed"),
        "seed": config.seed_everything,
        "checkpoint": checkpoint,
    }


def data_settings(config: Namespace) -> Namespace:
    """The settings of the DataModule, with the protocol's seed."""
    settings = config.data.get("init_args", Namespace()).clone()
    if "protocol" in settings and settings.get("seed") is None:
        settings.seed = default_seed(Protocol(**settings.protocol.as_dict()))
    return settings


def resumes(config: Namespace, folder: Path) -> bool:
    """Whether the checkpoint to start from lies in this folder."""
    checkpoint = config.get("ckpt_path")
    return bool(checkpoint) and checkpoint_run(Path(checkpoint)).resolve() == folder.resolve()


def find_checkpoint(subcommand: str, config: Namespace) -> None:
    """Replace ``--ckpt_path last`` or ``best`` by that checkpoint of the newest training of the same name.

    That is one with the same configuration files, fold, shots and seeds. A training is resumed in its folder, which
    ``--run`` may name instead; of a test, ``--run`` names where its own files go. InputError if there is none.
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
    """The folder named after experiment, fold, shots and seed; it may not exist yet."""
    settings = data_settings(config)
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
    return place_in_run(checkpoint)[0]


def place_in_run(checkpoint: Path) -> tuple[Path, Path]:
    """The run's folder that a checkpoint lies in, and its path in there, if need be by following links to a run."""
    for path in (checkpoint, checkpoint.resolve()):
        run = path.parent.parent
        if path.parent.name == CHECKPOINTS and (path is checkpoint or holds_run(run)):
            return run, Path(CHECKPOINTS) / path.name
    return checkpoint.parent, Path(checkpoint.name)


def experiment_folder(config: Namespace) -> Path:
    """``runs/<names of the YAMLs>``, loggers left out; for the config.yaml of a run, that run's experiment."""
    files = [Path(str(file)) for file in config.get("config") or [] if file is not None]
    if not files:
        return RUNS / "unnamed"
    if files[0].name == CONFIG:
        run = files[0].parent
        return (run if run.name not in ("", "..") else run.resolve()).parent  # which may be named as `.`
    return RUNS / "-".join(file.stem for file in files if file.parent.name != "logging")


def training_of(run: Path) -> dict[str, Any]:
    """What a run's folder records of its training: ``experiment``, ``seed``, ``data_seed`` and ``shots``.

    The last three are None if they are not recorded, as for imported weights.
    """
    identity = read_identity(run)
    if identity:
        return {key: identity[key] for key in ("experiment", "seed", "data_seed", "shots")}
    settings, data = saved_settings(run / CONFIG) if (run / CONFIG).exists() else ({}, {})
    seeds = {"seed": settings.get("seed_everything"), "data_seed": data.get("seed"), "shots": data.get("shots")}
    return {"experiment": experiment_name(run), **seeds}


def saved_settings(config: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What the ``config.yaml`` of a run says, and its data's settings alone.

    Raises:
        InputError: if it is not the configuration of a run.
    """
    content = read_yaml(config)
    data = content.get("data") if isinstance(content, Mapping) else None
    settings = data.get("init_args") if isinstance(data, Mapping) else None
    if not isinstance(settings, Mapping):
        raise InputError(
            f"{config} is not the configuration of a run: it lacks data.init_args. Restore it, or remove it."
        )
    return content, settings


def experiment_name(run: Path) -> str:
    """As the run's folder says; of older runs, the name of the folder above one that `run_folder` named."""
    identity = read_identity(run)
    if identity:
        return str(identity["experiment"])
    run = run.resolve()
    return run.parent.name if re.match(r"((test|validate|predict)-)?(fold|seed)\d", run.name) else run.name


@rank_zero_only
def keep_metrics(folder: Path) -> None:
    """Rename ``metrics.csv`` to ``metrics-1.csv``, -2 …: the logger of a resumed run starts a new file."""
    metrics = folder / "metrics.csv"
    if metrics.exists():
        numbers = [path.stem.rpartition("-")[2] for path in folder.glob("metrics-*.csv")]
        number = 1 + max((int(number) for number in numbers if number.isdecimal()), default=0)
        metrics.rename(folder / f"metrics-{number}.csv")
