"""``qgnet prepare``: a data set downloaded, converted, indexed and counted."""
# ruff: noqa: PLC0415  (what takes seconds to import is imported when it runs, not for --help)

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from datamodules.layouts import Crowds, Parts, Year
from datamodules.prepare import Tool
from qgnet.common.errors import InputError
from qgnet.common.paths import expanded

if TYPE_CHECKING:
    from datamodules.prepare.counts import Count, Prepared


def add_parser(subcommands: Any) -> None:
    """Register the subcommand."""
    kinds = subcommands.add_parser("prepare", description=__doc__).add_subparsers(required=True, metavar="DATASET")
    pascal = add_kind(kinds, "pascal5i", "VOC 2012 with SBD's masks", "data/pascal")
    pascal.set_defaults(prepare=pascal5i)
    coco = add_kind(kinds, "coco20i", "COCO, its instances drawn as index masks", "data/coco")
    coco.add_argument("--year", type=int, choices=get_args(Year), default=2014)
    coco.add_argument("--parts", choices=get_args(Parts), default="full", help="of each instance")
    coco.add_argument("--crowds", choices=get_args(Crowds), default="ignore", help="what crowds become")
    coco.set_defaults(prepare=coco20i)
    fss = add_kind(kinds, "fss1000", "FSS-1000, checked (it cannot be downloaded)", "data/fss1000")
    fss.set_defaults(prepare=fss1000)
    folder = add_kind(kinds, "folder", "your own images and masks, checked", "data/folder")
    folder.add_argument("--mask-suffix", default="", help="what follows an image's name in its mask's, e.g. _mask")
    folder.add_argument(
        "--from",
        dest="labels",
        nargs=2,
        metavar=("TOOL", "SOURCE"),
        help=f"first write the folder from what a tool ({', '.join(get_args(Tool))}) has labelled",
    )
    folder.set_defaults(prepare=labelled_folder)


def pascal5i(options: argparse.Namespace) -> "Prepared":
    """Prepare PASCAL-5i."""
    from datamodules.prepare.pascal5i import prepare_pascal5i

    return prepare_pascal5i(options.root, options.check)


def coco20i(options: argparse.Namespace) -> "Prepared":
    """Prepare COCO-20i."""
    from datamodules.prepare.coco20i import prepare_coco20i

    return prepare_coco20i(options.root, options.check, options.year, options.parts, options.crowds)


def fss1000(options: argparse.Namespace) -> "Prepared":
    """Prepare FSS-1000."""
    from datamodules.prepare.fss1000 import prepare_fss1000

    return prepare_fss1000(options.root)


def labelled_folder(options: argparse.Namespace) -> "Prepared":
    """Write the folder of ``--from`` if that is given, and prepare it."""
    if options.labels:
        tool, source = options.labels
        if tool not in get_args(Tool):
            raise InputError(f"--from is given {tool}; expected one of {', '.join(get_args(Tool))}, and its folder.")
        if options.check:
            raise InputError("--from writes a folder and --check writes nothing. Leave one of them out.")
        if options.mask_suffix:
            raise InputError("--mask-suffix is of masks of your own, and --from writes others. Leave one out.")
        from datamodules.prepare.labels import convert

        for line in convert(tool, expanded(source), options.root):
            print(f"note: {line}")
    from datamodules.prepare.folder import prepare_folder

    return prepare_folder(options.root, options.mask_suffix)


def add_kind(kinds: Any, name: str, text: str, root: str) -> argparse.ArgumentParser:
    """A parser with what all data sets have in common."""
    parser: argparse.ArgumentParser = kinds.add_parser(
        name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--root", type=expanded, default=Path(root), help="folder of the data set")
    parser.add_argument("--check", action="store_true", help="download and convert nothing, only check")
    parser.add_argument("--skip-bad", action="store_true", help="list bad files and leave them out")
    parser.set_defaults(run=run)
    return parser


def run(options: argparse.Namespace) -> None:
    """Prepare, tell of bad files, and print the counts beside the expected ones.

    Raises:
        InputError: if something cannot be had or is bad, or the counts differ.
    """
    prepared: Prepared = options.prepare(options)
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


def table(counts: "Sequence[Count]") -> str:
    """Counts as lines; one that differs is marked."""
    width = max(len(count.what) for count in counts) + 2
    lines = [f"{'':<{width}}{'found':>8}{'expected':>10}"]
    for what, found, expected in counts:
        mark = "" if expected in (None, found) else "  <- differs"
        lines.append(f"{what:<{width}}{found:>8,}{'-' if expected is None else f'{expected:,}':>10}{mark}")
    return "\n".join(lines)
