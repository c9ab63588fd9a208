"""Options of the commands that segment: the network."""

import argparse
from pathlib import Path
from typing import Any

from qgnet.common.errors import InputError

OF_MATCHING = ("encoder", "encoder_weights", "high_stage")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add them as a group of their own."""
    model = parser.add_argument_group("network")
    model.add_argument(
        "--model", help="a name that `qgnet models` lists (default: the one marked there), or a file as for --ckpt"
    )
    model.add_argument(
        "--ckpt",
        type=Path,
        metavar="FILE",
        help="a checkpoint of your own training, or a folder of `qgnet export`",
    )
    model.add_argument("--encoder", help="with --model matching: a timm model; needs --encoder-weights")
    model.add_argument("--encoder-weights", metavar="FILE", help="for --encoder: a file, or `imagenet` (downloaded)")
    model.add_argument("--high-stage", type=int, choices=(3, 4), help="for --encoder: its last stage (default 4)")
    model.add_argument(
        "--image-size",
        type=int,
        help="side of the network's square in pixels (default: chosen from the supports; with a checkpoint, its own)",
    )


def model_of(options: argparse.Namespace) -> dict[str, Any]:
    """What a Segmenter takes for them; InputError if two networks are given."""
    if options.ckpt and options.model:
        raise InputError("--ckpt and --model are both given. Choose one of them.")
    given = {"model": options.ckpt or options.model, "image_size": options.image_size}
    given |= {name: getattr(options, name) for name in OF_MATCHING}
    return {name: value for name, value in given.items() if value is not None}
