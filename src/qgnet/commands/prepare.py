"""``qgnet prepare``: a data set downloaded, converted, indexed and counted."""

import argparse
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, get_args

from datamodules import prepare
from datamodules.prepare.choices import Tool
from qgnet.common.errors import InputError
from qgnet.common.paths import expanded

if TYPE_CHECKING:
    from datamodules.datasets.counts import Count

DATA_SETS = {
    "pascal5i": ("pascal5i.Pascal5i", "VOC 2012 with SBD's masks"),
    "coco20i": ("coco20i.Coco20i", "COCO, its instances drawn as index masks"),
    "fss1000": ("fss1000.Fss1000", "FSS-1000, checked (it cannot be downloaded)"),
    "folder": ("folder.NamedFolder", "your own images and masks, checked"),
}
"""Name → its PreparableDataset in ``datamodules.datasets``, imported only if it is asked for; and what it is."""


class DataSetParser(argparse.ArgumentParser):
    """Of one data set; its options are added when it is the one that parses."""

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        """As every parser."""
        kind = resolve_name(f"datamodules.datasets.{self.get_default('kind')}")
        self.set_defaults(kind=kind)
        self.add_argument("--root", type=expanded, default=kind.root, help="folder of the data set")
        self.add_argument("--check", action="store_true", help="download and convert nothing, only check")
        self.add_argument("--skip-bad", action="store_true", help="list bad files and leave them out")
        kind.add_options(self)
        return super().parse_known_args(*args, **kwargs)


def add_parser(subcommands: Any) -> None:
    """Register the subcommand, with one of its own for each data set."""
    parser = subcommands.add_parser("prepare", description=__doc__)
    kinds = parser.add_subparsers(required=True, metavar="DATASET", parser_class=DataSetParser)
    for name, (kind, title) in DATA_SETS.items():
        look = argparse.ArgumentDefaultsHelpFormatter
        parser = kinds.add_parser(name, help=title, description=title, formatter_class=look)
        parser.set_defaults(run=run, kind=kind, labels=None)


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


def table(counts: Sequence["Count"]) -> str:
    """Counts as lines; one that differs is marked."""
    width = max(len(count.what) for count in counts) + 2
    lines = [f"{'':<{width}}{'found':>8}{'expected':>10}"]
    for what, found, expected in counts:
        mark = "" if expected in (None, found) else "  <- differs"
        lines.append(f"{what:<{width}}{found:>8,}{'-' if expected is None else f'{expected:,}':>10}{mark}")
    return "\n".join(lines)
