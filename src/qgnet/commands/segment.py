"""``qgnet segment``: a few masks in, the masks of a whole folder of images out."""
# ruff: noqa: PLC0415  (what takes seconds to import is imported when it runs, not for --help)

import argparse
import re
from pathlib import Path
from typing import Any

from datamodules.files.image_paths import find_images
from datamodules.prepare.choices import LAYOUT
from qgnet.commands.model_options import add_model_options, model_of
from qgnet.common.errors import InputError
from qgnet.common.settings import Range, check
from qgnet.inference import PRESENCE, REFINE
from qgnet.outputs import FORMATS

RANGES = {"batch_size": Range(1, 1024), "workers": Range(0, 256), "nodes": Range(1)}
DEVICES = re.compile(r"auto|[1-9]\d*|\d+(,\d+)*,?")
"""How many, or the numbers of GPUs, such as 0,2."""


def add_parser(subcommands: Any) -> None:
    """Register the subcommand."""
    parser = subcommands.add_parser(
        "segment",
        description="Segments images from a few example masks. Writes a mask for each image, segments.csv and "
        "contact_sheet.jpg, least certain first. An interrupted run resumes where it stopped; finished images are "
        "segmented again only if the supports, the model or the image changed.",
        epilog="example: qgnet segment images/ --support cat1.jpg cat1.png --support cat2.jpg cat2.png --out masks/",
    )
    parser.add_argument("images", nargs="+", help="folders (searched through), files or patterns ('*.jpg')")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to, outside the folder of images")
    given = parser.add_argument_group("the object to find")
    given.add_argument(
        "--support",
        nargs=2,
        action="append",
        default=[],
        metavar=("IMAGE", "MASK"),
        help="an image and its mask, black and white, or 0 background, 1 object, 255 unknown; may be repeated",
    )
    given.add_argument(
        "--scribbles",
        action="store_true",
        help="the masks are rough strokes: white on the object, black on the background, grey elsewhere (or white "
        "alone, on black); they are grown to the edge of the object",
    )
    given.add_argument("--supports", type=Path, metavar="FOLDER", help=f"every class of a folder: {LAYOUT}")
    add_model_options(parser)
    how = parser.add_argument_group("settings")
    how.add_argument("--tile", action="store_true", help="slide that square over larger images")
    how.add_argument(
        "--threshold",
        type=float,
        help="probability above which a pixel is the object (default: chosen by the supports)",
    )
    how.add_argument(
        "--refine",
        choices=REFINE,
        default=REFINE[0],
        help="bring masks to the edges and colours of the image: walk, sam2 (SAM 2, of the extra `sam`; downloads its "
        "weights), none (default auto: walk, unless the supports are found better without)",
    )
    how.add_argument(
        "--presence",
        type=float,
        help=f"least score of an image whose mask is kept, where scores are calibrated (default {PRESENCE})",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--format",
        nargs="+",
        choices=tuple(FORMATS),
        default=["index"],
        help=f"one or more (default index): {'; '.join(f'{name}: {one.label}' for name, one in FORMATS.items())}",
    )
    output.add_argument("--polygons", action="store_true", help="with --format coco: polygons instead of run lengths")
    output.add_argument(
        "--instances",
        action="store_true",
        help="split masks into single objects: a COCO annotation and a labelme shape for each, outlines, and their "
        "number in segments.csv",
    )
    machine = parser.add_argument_group("machine")
    machine.add_argument("--devices", default="auto", help="number of GPUs or CPU processes (default: every GPU)")
    machine.add_argument("--nodes", type=int, default=1, help="number of machines, with torchrun or SLURM (default 1)")
    machine.add_argument("--accelerator", default="auto", help="cpu, gpu, … (default: a GPU if there is one)")
    machine.add_argument("--bf16", action="store_true", help="compute in bfloat16")
    machine.add_argument("--batch-size", type=int, default=8, help="images per process and step (default 8)")
    machine.add_argument("--workers", type=int, default=2, help="loader processes per process (default 2)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Segment and write.

    Raises:
        InputError: for anything that cannot be used, before the work starts.
    """
    options.format = list(dict.fromkeys(options.format))
    if {"index", "binary"} <= set(options.format):
        raise InputError("--format index and binary write files of the same names. Choose one of them.")
    files = find_images(options.images, options.out)
    if bool(options.support) == bool(options.supports):
        raise InputError("Give the object to find: either --support IMAGE MASK, once or more, or --supports FOLDER.")
    for option, rule in RANGES.items():
        check(
            {f"--{option.replace('_', '-')}": [rule]}, {f"--{option.replace('_', '-')}": getattr(options, option)}, ""
        )
    if not DEVICES.fullmatch(options.devices) or options.devices == "0":
        raise InputError(f"--devices is {options.devices}; expected how many, from 1 on, or `auto`: every GPU.")
    model = model_of(options)
    from qgnet.commands.segment_run import segment

    segment(options, files, model)
