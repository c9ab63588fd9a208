"""The settings of a run: YAML files and command line, parsed and checked, and what they describe made."""

from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace, get_loader, set_loader
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI

import datamodules
from datamodules.base import BaseDataModule
from qgnet.common.errors import InputError
from qgnet.common.paths import expanded
from qgnet.common.settings import Range, check, renamed
from qgnet.common.terminal import quiet
from qgnet.common.text import refuse_loops
from qgnet.config import DESCRIPTION
from qgnet.config.layers import prepared
from qgnet.runs.folders import SEED, find_checkpoint
from qgnet.runs.trainer import Trainer
from qgnet.tasks.base import Task
from qgnet.tasks.heads import DCAMASegmentation, HSNetSegmentation  # noqa: F401  (named in YAML)
from qgnet.tasks.matching import SupportMatching  # noqa: F401
from qgnet.tasks.pretraining import GlobalLocalPretraining  # noqa: F401
from qgnet.tasks.score_maps import ScoreMapSegmentation  # noqa: F401
from qgnet.tasks.segmentation import FewShotSegmentation  # noqa: F401

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


class CommandLine(LightningCLI):
    """The settings of a subcommand in ``config``; nothing is made of them before :meth:`instantiate`.

    Lightning's own class for it, without what it does with subcommands: those are functions of ``qgnet.cli``.

    Args:
        name: of the subcommand; its arguments follow.
        prog: the command's name in its help.
    """

    def __init__(self, name: str, arguments: Sequence[str], prog: str = "lightning") -> None:
        self.name = name
        super().__init__(
            Task,
            BaseDataModule,
            trainer_class=Trainer,
            save_config_callback=None,  # `Begin` does it
            seed_everything_default=SEED,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            parser_kwargs={"prog": f"{prog} {name}", "description": DESCRIPTION, "exit_on_error": False},
            args=list(arguments),
            run=False,
        )

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
            type=bool,
            nargs="?",
            const=True,
            default=False,
            help="Show also what Lightning and loggers report of themselves, and where warnings come from.",
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
        parser.set_defaults({"checkpoint.filename": "best", "checkpoint.monitor": "val/miou", "checkpoint.mode": "max"})

    def setup_parser(self, *args: Any) -> None:
        """Add what the Trainer's method takes, but for Lightning's ``verbose``, a table of every class's score."""
        super().setup_parser(*args)
        skip: set[int | str] = {*self.subcommands()[self.name], "verbose"}
        self.options = self.parser.add_method_arguments(Trainer, self.name, skip=skip)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse and check; from then on keep quiet unless asked not to."""
        assert isinstance(args, list)
        try:
            self.config = parser.parse_args(prepared(args, self.name))
        except ArgumentError as error:
            raise InputError(f"{error} See `{parser.prog} --help`.") from error
        expand_paths(self.config)
        check(RUN_RANGES, self.config, "")
        check(TRAINER_RANGES, self.config.trainer, "trainer")
        if not self.config.verbose:
            quiet()

    def instantiate_classes(self) -> None:
        """Not yet, see :meth:`instantiate`."""

    def instantiate(self) -> Namespace:
        """``model``, ``data``, ``checkpoint``, and the Trainer's settings with their callbacks and loggers."""
        return self.parser.instantiate_classes(self.config)

    def method_options(self) -> dict[str, Any]:
        """What the Trainer's method is called with, besides task and data."""
        options = {name: self.config[name] for name in self.options}
        return options | ({"verbose": self.config.verbose} if self.name in ("validate", "test") else {})


def check_places(name: str, config: Namespace) -> None:
    """Find the checkpoint that ``last`` or ``best`` names; InputError if there is none, or ``--run`` is no folder."""
    if config.run and Path(config.run).exists() and not Path(config.run).is_dir():
        raise InputError(f"--run is {config.run}, which is not a folder. Name one, or one to be made.")
    if config.ckpt_path in (("last",) if name == "fit" else ("last", "best")):
        find_checkpoint(name, config)
    if config.ckpt_path and not Path(config.ckpt_path).is_file():
        raise InputError(
            f"--ckpt_path is {config.ckpt_path}, which does not exist. Give a checkpoint, e.g. "
            "runs/<experiment>/<run>/checkpoints/best.ckpt."
        )


def expand_paths(settings: Any) -> None:
    """Replace ``~`` and ``$VARIABLES`` in all settings that are paths, in those of loggers and callbacks too."""
    for value in settings if isinstance(settings, list) else []:
        expand_paths(value)
    for name, value in list(vars(settings).items()) if isinstance(settings, Namespace) else []:
        if name in PATHS and isinstance(value, str | Path):
            settings[name] = type(value)(expanded(value)) if "~" in str(value) or "$" in str(value) else value
        else:
            expand_paths(value)
