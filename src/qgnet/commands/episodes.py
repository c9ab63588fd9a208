"""``qgnet episodes``: the test episodes of a configuration as a manifest, for another run or another codebase."""
# ruff: noqa: PLC0415  (what takes seconds to import is imported when it runs, not for --help)

import argparse
from typing import Any

from datamodules.episodes.manifest import write_manifest
from qgnet.common.errors import InputError
from qgnet.common.paths import expanded


def add_parser(subcommands: Any) -> None:
    """Register the subcommand."""
    parser = subcommands.add_parser(
        "episodes",
        description=__doc__,
        epilog="example: qgnet episodes fold0.jsonl --config pascal5i.yaml --data.fold 0; "
        "then lightning test … --data.episode_file fold0.jsonl",
    )
    parser.add_argument("output", type=expanded, help="file of JSON lines to write")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="as for lightning test: --config FILE, --data.*")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Draw the episodes and write them; InputError if the configuration has no episodes, or its data cannot be used."""
    from datamodules.episodic import EpisodeDataModule
    from qgnet.cli import parse

    _, data = parse(options.arguments)
    if not isinstance(data, EpisodeDataModule):
        raise InputError(f"{type(data).__name__} has no episodes. Give the configuration of an episodic DataModule.")
    data.setup("test")
    episodes = data.data["val"]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    digest = write_manifest(options.output, [episodes.named(i) for i in range(len(episodes))])
    print(f"{len(episodes)} episodes in {options.output}, sha256 {digest}")
