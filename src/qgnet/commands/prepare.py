"""``qgnet prepare``: a data set downloaded, converted, indexed and counted."""

import argparse
from collections.abc import Sequence
from typing import Any, get_args

from datamodules import prepare
from datamodules.datasets.coco20i import Coco20i
from datamodules.datasets.counts import Count
from datamodules.datasets.folder import LabelledFolder
from datamodules.datasets.fss1000 import Fss1000
from datamodules.datasets.pascal5i import Pascal5i
from datamodules.prepare.choices import Tool
from qgnet.common.errors import InputError
from qgnet.common.paths import expanded


def add_parser(subcommands: Any) -> None:
    """Register the subcommand, with one of its own for each data set."""
    kinds = subcommands.add_parser("prepare", description=__doc__).add_subparsers(required=True, metavar="DATASET")
    for kind in (Pascal5i, Coco20i, Fss1000, LabelledFolder):
        parser = kinds.add_parser(
            kind.command,
            help=kind.title,
            description=kind.title,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        parser.add_argument("--root", type=expanded, default=kind.root, help="folder of the data set")
        parser.add_argument("--check", action="store_true", help="download and convert nothing, only check")
        parser.add_argument("--skip-bad", action="store_true", help="list bad files and leave them out")
        kind.add_options(parser)
        parser.set_defaults(run=run, kind=kind, labels=None)
    parser.add_argument(
        "--from",
        dest="labels",
        nargs=2,
        metavar=("TOOL", "SOURCE"),
        help=f"first write the folder from what a tool ({', '.join(get_args(Tool))}) has labelled",
    )


def run(options: argparse.Namespace) -> None:
    """Prepare, list bad files, and print the counts and the expected ones.

    Raises:
        InputError: if something cannot be had or is bad, or the counts differ.
    """
    if options.labels:
        convert(options)
    prepared = options.kind.from_options(options).prepare(options.check)
    bad = prepared.bad_files()
    prepared.accept(False)  # until this has ended well, an earlier --skip-bad does not count
    for image, reason in bad.items():
        print(f"bad: {image}: {reason}")
    for line in prepared.notices:
        print(f"note: {line}")
    if bad and not options.skip_bad:
        raise InputError(
            f"{len(bad)} image(s) are bad, listed above. Restore them, or run this with --skip-bad: they are then left "
            "out of every episode."
        )
    if bad:
        print(f"{len(bad)} bad image(s) are left out of every episode.")
    print(table(prepared.counts))
    different = [count.what for count in prepared.counts if count.expected not in (None, count.found)]
    if different:
        raise InputError(
            f"{len(different)} count(s) differ from the literature's, the first: {different[0]}. Results on this data "
            "are not comparable; remove the folder and prepare it again, or find out which files differ."
        )
    prepared.accept(bool(bad))
    print(f"{options.root} is ready.")


def convert(options: argparse.Namespace) -> None:
    """Write the folder of ``--from``."""
    tool, source = options.labels
    tools = get_args(Tool)
    if tool not in tools:
        raise InputError(f"--from is given {tool}; expected one of {', '.join(tools)}, and its folder.")
    if options.check:
        raise InputError("--from writes a folder and --check writes nothing. Leave one of them out.")
    if options.mask_suffix:
        raise InputError("--mask-suffix is of masks of your own, and --from writes others. Leave one out.")
    for line in prepare.convert(tool, expanded(source), options.root):
        print(f"note: {line}")


def table(counts: Sequence[Count]) -> str:
    """Counts as lines; one that differs is marked."""
    width = max(len(count.what) for count in counts) + 2
    lines = [f"{'':<{width}}{'found':>8}{'expected':>10}"]
    for what, found, expected in counts:
        mark = "" if expected in (None, found) else "  <- differs"
        lines.append(f"{what:<{width}}{found:>8,}{'-' if expected is None else f'{expected:,}':>10}{mark}")
    return "\n".join(lines)
