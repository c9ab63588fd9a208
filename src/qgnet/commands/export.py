"""``qgnet export``: a network as ONNX files, checked against torch."""
# ruff: noqa: PLC0415  (what takes seconds to import is imported when it runs, not for --help)

import argparse
from pathlib import Path
from typing import Any

from qgnet.commands.model_options import add_model_options, model_of
from qgnet.common.terminal import quiet


def add_parser(subcommands: Any) -> None:
    """Register the subcommand."""
    parser = subcommands.add_parser(
        "export",
        description="Writes a network as a folder of ONNX files: encoder.onnx and, of a checkpoint, support.onnx and "
        "decoder.onnx, each for any number of images of one size. Runs them with onnxruntime, prints how far they "
        "are from torch, and deletes them if that is too far. The matching of query and support positions between "
        "them stays in torch, because it has no fixed size. Needs the extra `onnx`. The files run on the CPU.",
        epilog="example: qgnet export --ckpt last.ckpt --out exported/, then qgnet segment images/ "
        "--ckpt exported/ --support cat1.jpg cat1.png --out masks/",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to; it must be new or empty")
    add_model_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Export, and print how far the files are from torch."""
    quiet()
    model = model_of(options)  # a mistake in the arguments is reported before the imports
    from qgnet.inference.models import open_model
    from qgnet.inference.onnx_export import export

    for part, largest, values in export(open_model(**model), options.out):
        print(f"maximum difference of {part} to torch: {largest:.1e}, at values up to {values:.1e}")
    for file in sorted(options.out.iterdir()):
        print(f"{file}: {file.stat().st_size / 2**20:.1f} MB")
