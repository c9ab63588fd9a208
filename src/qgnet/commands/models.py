"""``qgnet models``: what segments without a checkpoint of one's own."""

import argparse
from typing import Any

from qgnet.models import DEFAULT, known_models


def add_parser(subcommands: Any) -> None:
    """Register the subcommand."""
    parser = subcommands.add_parser("models", description=__doc__)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """A line per model."""
    for name, description in known_models().items():
        print(f"{name + (' (default)' if name == DEFAULT else ''):28}{description}")
