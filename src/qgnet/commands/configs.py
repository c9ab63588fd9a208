"""``qgnet configs``: the configurations that come with the package, listed or copied."""
# ruff: noqa: PLC0415  (what takes longer to import is imported when it runs, not for --help)

import argparse
import shutil
from pathlib import Path
from typing import Any

from qgnet.common.errors import InputError
from qgnet.common.paths import expanded


def add_parser(subcommands: Any) -> None:
    """Register the subcommand."""
    parser = subcommands.add_parser(
        "configs",
        description="Lists the configurations that come with qgnet. `lightning fit --config NAME` finds them by these "
        "names. Copy one to change it.",
        epilog="example: qgnet configs pascal5i.yaml --copy my_configs/",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="these alone, e.g. heads/hsnet.yaml (default: all)")
    parser.add_argument("--copy", type=expanded, metavar="FOLDER", help="copy them to this folder")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print a line per configuration, or copy them.

    Raises:
        InputError: for a name that is not shipped, or a file that exists in the folder of ``--copy``.
    """
    from qgnet.config.shipped import FOLDER, shipped, summary

    files = shipped()
    unknown = [name for name in options.names if name not in files]
    if unknown:
        raise InputError(f"No configuration {unknown[0]} comes with qgnet. `qgnet configs` lists their names.")
    chosen = {name: files[name] for name in options.names or files}
    if options.copy:
        copy(chosen, options.copy)
        return
    width = max(map(len, chosen)) + 2
    for name, file in chosen.items():
        print(f"{name:{width}}{summary(file)}")
    print(f"\nfiles: {FOLDER}")


def copy(files: dict[str, Path], folder: Path) -> None:
    """Copy the files into a folder, each to its name; InputError if one of them is there."""
    there = [folder / name for name in files if (folder / name).exists()]
    if there:
        raise InputError(f"{there[0]} exists. Remove it, or name another folder with --copy.")
    for name, file in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)
        print(folder / name)
