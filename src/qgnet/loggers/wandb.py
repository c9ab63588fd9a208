"""Logger for Weights & Biases with run groups, tables, and masks to switch on and off."""
# ruff: noqa: PLC0415  (wandb is imported only when a logger is created)

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_warn

from qgnet.common.errors import InputError
from qgnet.common.internals import go_offline, may_go_offline

TIMEOUT = 60
"""Seconds to wait for the server at the start."""
LONGEST_ID = 128
"""Most characters of a run's id, which names its folder."""
Masks = Mapping[str, Any]
"""Name of an overlay → (H, W) array of 0 background, 1 foreground, 255 ignored."""
LABELS = {0: "background", 1: "foreground", 255: "ignored"}
PACKAGES = {"Wandb": "wandb", "WandbLogger": "wandb", "TensorBoardLogger": "tensorboard"}
"""Logger → the package it needs."""


def require_package(class_path: str) -> None:
    """Refuse a logger whose package is not installed."""
    name = class_path.rpartition(".")[2]
    package = PACKAGES.get(name)
    if package and find_spec(package) is None:
        raise InputError(
            f"The logger {name} needs {package}, which is not installed. Install it: pip install {package}."
        )


def check_name(setting: str, field: str, value: Any) -> None:
    """Raise InputError if wandb refuses a setting (``field`` of its Settings), or an id cannot be a folder name."""
    import wandb
    from pydantic import ValidationError  # wandb requires pydantic

    reason = ""
    try:
        wandb.Settings(**{field: value})
    except (wandb.errors.UsageError, ValueError) as error:
        found = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        reason = found.removeprefix("Value error, ").removesuffix(".")
    if setting == "id" and value and (len(value) > LONGEST_ID or not str(value).isprintable()):
        reason = f"expected at most {LONGEST_ID} printable characters"
    if reason:
        raise InputError(
            f"The wandb logger's {setting} is {str(value)[:80]!r}: {reason}. Give another: --trainer.logger.{setting}."
        )


class Wandb(WandbLogger):
    """``WandbLogger`` with settings from the run. It goes offline if the server cannot be reached.

    Args:
        project: project at Weights & Biases.
        entity: user or team; null takes the default of the account.
        offline: write to the run's folder only; ``wandb sync`` uploads it later.
        log_checkpoints: upload checkpoints as artifacts (not offline): ``true`` at the end, ``all`` as they appear.
        save_dir: null takes the run's folder.
        group: null takes data set, backbone and shots of the experiment.
        name: null takes the name of the run's folder.
        job_type: null takes the subcommand: fit, validate, test or predict.
        tags: null takes protocol, fold and shots.
        id: null takes a new id, or the id of the resumed run.
    """

    def __init__(
        self,
        project: str = "qgnet",
        entity: str | None = None,
        offline: bool = True,
        log_checkpoints: bool | Literal["all"] = False,
        save_dir: str | None = None,
        group: str | None = None,
        name: str | None = None,
        job_type: str | None = None,
        tags: Sequence[str] | None = None,
        id: str | None = None,
    ) -> None:
        if not project:
            raise InputError("The wandb logger has no project. Give one: --trainer.logger.project NAME.")
        if offline and log_checkpoints:
            raise InputError(
                "Checkpoints cannot be uploaded offline. Take --trainer.logger.offline false, or leave log_checkpoints."
            )
        import wandb

        check_name("project", "project", project)
        check_name("id", "run_id", id)
        check_name("tags", "run_tags", tags)
        super().__init__(
            name=name,
            save_dir=save_dir or ".",
            offline=offline,
            id=id,
            project=project,
            log_model=log_checkpoints,
            entity=entity,
            group=group,
            job_type=job_type,
            tags=list(tags or ()),
            settings=wandb.Settings(init_timeout=TIMEOUT),
        )

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The wandb run; offline, with a warning, if the server cannot be reached."""
        if may_go_offline(self):
            import wandb

            try:
                return super().experiment
            except wandb.errors.Error as error:
                rank_zero_warn(
                    f"wandb cannot be had ({error}); this run is written offline to {self.save_dir}. Upload it later "
                    "with `wandb sync`. Without an account set --trainer.logger.offline true; with one, `wandb login`."
                )
                wandb.teardown()
                go_offline(self)
                os.environ["WANDB_MODE"] = "offline"
        return super().experiment

    def location(self) -> str:
        """A line with the address of the run, or how to upload it."""
        run = self.experiment
        return f"wandb: {run.url}" if run.url else f"wandb: `wandb sync {Path(run.dir).parent}` uploads this run"

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Add facts to the run's config."""
        self.experiment.config.update(dict(facts), allow_val_change=True)

    def log_overlays(self, key: str, images: Sequence[Any], masks: Sequence[Masks], captions: Sequence[str]) -> None:
        """Log images (H, W, 3) uint8 with masks that can be switched on and off."""
        layers = [{name: {"mask_data": mask, "class_labels": LABELS} for name, mask in row.items()} for row in masks]
        self.log_image(key, list(images), masks=layers, caption=list(captions))

    def log_class_iou(self, key: str, class_iou: Mapping[str, float]) -> None:
        """Log the IoU of each class, in [0, 1], as a bar chart and as its table (``<key>_table``)."""
        import wandb

        table = wandb.Table(columns=["class", "IoU"], data=[list(row) for row in class_iou.items()])
        self.log_metrics({key: wandb.plot.bar(table, "class", "IoU", title=key)})  # type: ignore[dict-item]
