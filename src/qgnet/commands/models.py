"""``qgnet models``: what segments without a checkpoint of one's own, and what can be trained."""
# ruff: noqa: PLC0415  (what takes seconds to import is imported when it runs, not for --help)

import argparse
from pathlib import Path
from typing import Any

from qgnet.common.errors import InputError
from qgnet.inference import model_names
from qgnet.inference.model_names import DEFAULT, TRAINABLE, named_models


def add_parser(subcommands: Any) -> None:
    """Register the subcommand."""
    parser = subcommands.add_parser(
        "models", description="Lists what `qgnet segment --model` knows by name, and the networks that can be trained."
    )
    parser.add_argument(
        "--pack", nargs=2, metavar=("CKPT", "NAME"), help="for developers: add a trained head to the package"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """A line per model and per network to train; or write a head.

    Raises:
        InputError: if the checkpoint cannot be used, or there is a head of that name.
    """
    if options.pack:
        checkpoint, name = options.pack
        file = model_names.HEADS / f"{name}.pt"
        if file.exists():
            raise InputError(f"{file} exists. Choose another name, or remove it.")
        from qgnet.inference.models import pack_checkpoint

        pack_checkpoint(Path(checkpoint), file)
        print(f"{file}: {file.stat().st_size / 2**20:.1f} MB. Write its model card to {file.with_suffix('.md')}.")
        return
    for name, description in named_models().items():
        print(f"{name + (' (default)' if name == DEFAULT else ''):28}{description}")
    print("\nto be trained by `lightning fit --config FILE`, and then given as --model runs/…/checkpoints/last.ckpt:")
    for network in TRAINABLE:
        print(f"{network.name:14}{network.paper:42}{network.configuration}")
