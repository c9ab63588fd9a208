"""``qgnet import-weights``: released QGNet, PFENet, HSNet, DCAMA, ImageNet ResNets or MoCo in this project's form."""
# ruff: noqa: PLC0415  (what takes seconds to import is imported when it runs, not for --help)

import argparse
from typing import Any

from qgnet.common.paths import expanded


def add_parser(subcommands: Any) -> None:
    """Register the subcommand."""
    parser = subcommands.add_parser(
        "import-weights",
        description=__doc__,
        epilog="example: qgnet import-weights released.pth ours.ckpt; it prints the command to use the result with",
    )
    parser.add_argument("source", type=expanded, help="file of weights by torch.save; what it is shows by itself")
    parser.add_argument("output", type=expanded, help="file to write; it must not exist")
    parser.add_argument(
        "--levels",
        type=level,
        nargs="+",
        default=[60, 30, 15, 8],
        help="pyramid of a QGNet or PFENet, which its weights do not tell: sides above 1, ratios up to 1 "
        "(default: 60 30 15 8, PASCAL's; COCO's are 1 0.5 0.25 0.125)",
    )
    parser.set_defaults(run=run)


def level(text: str) -> float:
    """A side (whole) or a ratio, both above zero."""
    value = float(text)
    if not value > 0 or (value > 1 and not value.is_integer()):
        raise argparse.ArgumentTypeError(f"{text} is neither a side such as 30 nor a ratio such as 0.5")
    return int(value) if value > 1 else value


def run(options: argparse.Namespace) -> None:
    """Convert, and say what was found and how to use the result."""
    from qgnet.released.importing import import_weights

    print(import_weights(options.source, options.output, options.levels))
