"""The ``qgnet`` command: what is not a Trainer's job, a file per subcommand; and the subcommands of ``lightning``."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from qgnet.common.boundary import boundary
from qgnet.config import SUBCOMMANDS
from qgnet.start import ShowVersions, lightning

COMMANDS = {
    "segment": "segment images from a few example masks",
    "serve": "the same in a browser, on a page to paint on",
    "export": "a network as ONNX files, checked against torch",
    "models": "list the models that segment knows by name",
    "configs": "list or copy the configurations of trainings that come with the package",
    "prepare": "download, convert, index and count a data set",
    "regions": "cut the images of stage 1 into regions, ahead of the training",
    "import-weights": "convert released weights",
    "prior-bank": "write a bank of priors for self-correspondence",
    "episodes": "write the test episodes of a configuration to a file",
    "report": "collect the results of finished tests into tables",
}
"""Name → what it does; the file of the same name has its parser and is imported only if it is the one asked for."""


def main(args: Sequence[str] | None = None) -> None:
    """Run one subcommand; see :func:`qgnet.common.boundary.boundary` for how it ends."""
    args = sys.argv[1:] if args is None else args
    if args[:1] and args[0] in SUBCOMMANDS:
        lightning(args, prog="qgnet")
        return
    parser = argparse.ArgumentParser(prog="qgnet", description="Data sets, weights, episodes and results of QGNet.")
    parser.add_argument("--version", action=ShowVersions)
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")
    with boundary("Run the same command again to go on."):
        for name, text in SUBCOMMANDS.items():
            subcommands.add_parser(name, help=f"as `lightning {name}`: {text}")
        for name, text in COMMANDS.items():
            if name in args[:1]:
                import_module(f"{__name__}.{name.replace('-', '_')}").add_parser(subcommands)
            else:
                subcommands.add_parser(name, help=text)
        options = parser.parse_args(args)
        options.run(options)
