"""Names and origin of a run for Weights & Biases."""

import platform
import secrets
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from datamodules.files.writing import atomic_write
from qgnet.runs.folders import checkpoint_run, experiment_name, training_of

ID_FILE = "wandb_run_id"
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "timm", "albumentations", "numpy")


def name_run(logger: Namespace, subcommand: str, config: Namespace, folder: Path) -> None:
    """Fill in the missing settings of a ``Wandb`` logger; ``logger`` holds its ``init_args``."""
    checkpoint = config.get("ckpt_path")
    source = checkpoint_run(Path(checkpoint)) if checkpoint else None
    names = {
        "save_dir": str(folder),
        "group": group(config, source, folder),
        "name": folder.name,
        "job_type": subcommand,
        "tags": tags(subcommand, config),
        "id": run_id(folder, source if subcommand == "fit" else None),
    }
    for key, value in names.items():
        if logger.get(key) is None:
            logger[key] = value


def group(config: Namespace, source: Path | None, folder: Path) -> str:
    """``<experiment> <encoder> <K>-shot``, the same for all folds, seeds and tests of an experiment.

    The shots are those of the training, also in a test with other shots. Stage 1 has none.
    """
    training = training_of(source) if source else {"experiment": experiment_name(folder), "shots": None}
    shots = training["shots"] or config.data.init_args.get("shots")
    parts = [training["experiment"], config.model.init_args.encoder]
    return " ".join([*parts, f"{shots}-shot"] if shots else parts)


def tags(subcommand: str, config: Namespace) -> list[str]:
    """Tags of a run: stage and subcommand; for episodes also protocol, fold and shots."""
    data = config.data.init_args
    if "shots" not in data:
        return ["stage 1", subcommand]
    fold = "all classes" if data.fold is None else f"fold {data.fold}"
    return ["stage 2", subcommand, f"protocol {data.protocol.name}", fold, f"{data.shots}-shot"]


def run_id(folder: Path, source: Path | None) -> str:
    """The wandb id of a run: its earlier one if it is resumed, else a new one."""
    files = [place / ID_FILE for place in (folder, source) if place is not None and (place / ID_FILE).is_file()]
    return files[0].read_text().strip() if files else secrets.token_hex(4)


def keep_id(folder: Path, number: str) -> None:
    """Write the id into the run's folder, for resuming the training."""
    with atomic_write(folder / ID_FILE) as part:
        part.write_text(f"{number}\n")


def origin() -> dict[str, Any]:
    """The code of a run: package versions, and the git revision of a checkout (None otherwise)."""
    versions: Mapping[str, str] = {package: version(package) for package in PACKAGES}
    return {"revision": revision(), "versions": {"python": platform.python_version(), **versions}}


def revision() -> str | None:
    """The git commit of this package, with ``+`` if files were changed since; None without git or a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git
        return None
    return done.stdout.strip() or None
