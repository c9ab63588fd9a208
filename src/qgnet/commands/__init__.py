"""The ``qgnet`` command: what is not a Trainer's job, a file per subcommand."""

import argparse
import sys
from collections.abc import Sequence

from datamodules.errors import InputError
from qgnet.cli import fail
from qgnet.commands import episodes, import_weights, prepare, prior_bank, regions, report


def main(args: Sequence[str] | None = None) -> None:
    """Run one subcommand; a user's mistake ends it with a message and exit code 2, Ctrl-C with 130."""
    parser = argparse.ArgumentParser(prog="qgnet", description="Data sets, weights, episodes and results of QGNet.")
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (prepare, regions, import_weights, prior_bank, episodes, report):
        command.add_parser(subcommands)
    try:
        options = parser.parse_args(args)
        options.run(options)
    except InputError as error:
        fail(error)
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to go on.", file=sys.stderr)
        sys.exit(130)
