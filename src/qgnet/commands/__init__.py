"""The ``qgnet`` command: what is not a Trainer's job, a file per subcommand."""

import argparse
from collections.abc import Sequence

from qgnet.boundary import boundary
from qgnet.commands import episodes, import_weights, prepare, prior_bank, regions, report


def main(args: Sequence[str] | None = None) -> None:
    """Run one subcommand; see :func:`qgnet.boundary.boundary` for how it ends."""
    parser = argparse.ArgumentParser(prog="qgnet", description="Data sets, weights, episodes and results of QGNet.")
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (prepare, regions, import_weights, prior_bank, episodes, report):
        command.add_parser(subcommands)
    options = parser.parse_args(args)
    with boundary("Run the same command again to go on."):
        options.run(options)
