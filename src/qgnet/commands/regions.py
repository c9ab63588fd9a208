"""``qgnet regions``: the region maps of stage 1's images, computed before the training asks for them."""
# ruff: noqa: PLC0415  (what takes seconds to import is imported when it runs, not for --help)

import argparse
from typing import Any

from qgnet.common.errors import InputError


def add_parser(subcommands: Any) -> None:
    """Register the subcommand."""
    parser = subcommands.add_parser(
        "regions",
        description="Fills data.region_cache with the region maps of all images, in parallel. The training does so "
        "itself when it starts; for millions of images do it here first, on a machine without a GPU. It resumes where "
        "it broke off.",
        epilog="example: qgnet regions pretrain_imagenet.yaml --data.root FOLDER",
    )
    parser.add_argument("config", help="a YAML of stage 1")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="as for lightning fit: --data.*")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Compute what is missing; InputError if the configuration keeps no region maps, or they cannot be made."""
    from datamodules.unlabeled import ViewDataModule
    from qgnet.cli import parse

    _, data = parse(["--config", options.config, *options.arguments])
    file = data.region_maps().file if isinstance(data, ViewDataModule) else None
    if file is None:
        raise InputError(
            "This configuration keeps no region maps. Give one of stage 1 with data.region_cache and data.regions slic "
            "or felzenszwalb."
        )
    data.prepare_data()
    print(f"The region maps of {len(data.all_images.names)} images are in {file}")
