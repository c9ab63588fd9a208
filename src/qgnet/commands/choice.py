"""The options of a command that say which network it takes."""

import argparse
from pathlib import Path
from typing import Any

from qgnet.common.errors import InputError


def add_model_choice(parser: Any, also: str = "") -> None:
    """Register them.

    Args:
        parser: or a group of one.
        also: what ``--ckpt`` may be beside a checkpoint.
    """
    parser.add_argument("--model", help="a name that `qgnet models` lists (default: the one it says)")
    parser.add_argument("--ckpt", type=Path, metavar="FILE", help=f"a checkpoint of your own training{also}, instead")
    parser.add_argument("--encoder", help="of --model matching: a timm model, with --encoder-weights")
    parser.add_argument("--encoder-weights", metavar="FILE", help="of --encoder: file, or `imagenet` (downloaded)")
    parser.add_argument("--high-stage", type=int, choices=(3, 4), help="of --encoder: its last stage (default 4)")
    parser.add_argument(
        "--image-size", type=int, help="side of the square it works on, 8n + 1 px (default: the model's)"
    )


def chosen(options: argparse.Namespace) -> tuple[str | Path | None, dict[str, Any]]:
    """The model, None if none is named, and settings of ``matching``; InputError if two are given."""
    if options.ckpt and options.model:
        raise InputError("--ckpt and --model are both given. Choose one of them.")
    own = {key: getattr(options, key) for key in ("encoder", "encoder_weights", "high_stage")}
    return options.ckpt or options.model, {key: value for key, value in own.items() if value is not None}
