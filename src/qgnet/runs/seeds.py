"""A test with every seed of its protocol."""

import json
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from datamodules.datasets.protocols import Protocol
from qgnet.common.errors import InputError
from qgnet.runs.results import RESULTS
from qgnet.runs.tables import collect


def take_first_seed(subcommand: str, config: Namespace) -> list[list[str]]:
    """Set a test to the protocol's first seed; the extra arguments for each of the other seeds.

    Each has a folder of its own, inside of ``--run`` if that is given. InputError for data without a protocol.
    """
    settings = config.data.init_args
    if subcommand != "test" or "protocol" not in settings:
        raise InputError("--all_seeds is for `lightning test` on episodes. Leave it out.")
    seeds = Protocol(**settings.protocol.as_dict()).resolved().seeds
    assert seeds
    further = [[f"--data.seed={seed}", "--all_seeds=false"] for seed in seeds[1:]]
    if config.get("ckpt_path"):
        further = [[*more, f"--ckpt_path={config.ckpt_path}"] for more in further]
    if config.run:
        further = [[*more, f"--run={config.run}/seed{s}"] for more, s in zip(further, seeds[1:], strict=True)]
        config.run = f"{config.run}/seed{seeds[0]}"
    settings.seed = seeds[0]
    return further


def print_tables(folders: Sequence[Path]) -> None:
    """The results in these folders, the mean ± the sample standard deviation over seeds, as `qgnet report`."""
    tables, _ = collect(json.loads((folder / RESULTS).read_text()) for folder in folders)
    for table in tables:
        print(table.text())
