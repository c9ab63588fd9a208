"""How both commands start: help and version at once, what takes seconds to import only for what needs it.

Ctrl-C is heeded from the first import on.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from qgnet import __version__
from qgnet.common.boundary import boundary
from qgnet.common.versions import versions
from qgnet.config import DESCRIPTION, SUBCOMMANDS


class ShowVersions(argparse.Action):
    """The option ``--version``: prints the versions of qgnet and of what it stands on, and ends with 0."""

    def __init__(self, option_strings: list[str], dest: str) -> None:
        text = "show the versions of qgnet and of the packages it stands on, and the devices"
        super().__init__(option_strings, dest=argparse.SUPPRESS, nargs=0, help=text)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        """Print and end."""
        print("\n".join([f"qgnet-lightning {__version__}", *versions()]))
        sys.exit(0)


def lightning(args: Sequence[str] | None = None, prog: str = "lightning") -> None:
    """The ``lightning`` command: its own help and version without Lightning, all else by :func:`qgnet.cli.main`.

    Args:
        args: subcommand and settings; None takes those of the process.
        prog: the command's name in its help: ``qgnet`` has the same subcommands.
    """
    first = (sys.argv[1:] if args is None else args)[:1]
    if first and first[0] not in ("-h", "--help", "--version"):
        with boundary("Nothing was written yet."):
            main = import_module("qgnet.cli").main
        main(args, prog)
        return
    parser = argparse.ArgumentParser(
        prog="lightning", description=DESCRIPTION, epilog="`lightning fit --help` lists the settings of a training."
    )
    parser.add_argument("--version", action=ShowVersions)
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, text in SUBCOMMANDS.items():
        subcommands.add_parser(name, help=text)
    parser.parse_args(first)
