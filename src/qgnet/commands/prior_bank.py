"""``qgnet prior-bank``: priors for self-correspondence from a folder of images, fixed before stage 2."""
# ruff: noqa: PLC0415  (what takes seconds to import is imported when it runs, not for --help)

import argparse
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, get_args

from qgnet.common.errors import InputError
from qgnet.common.paths import expanded
from qgnet.common.settings import check_side
from qgnet.weights import Method

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.unlabeled import ImageFolder


def add_parser(subcommands: Any) -> None:
    """Register the subcommand."""
    parser = subcommands.add_parser(
        "prior-bank",
        description=__doc__,
        epilog="example: qgnet prior-bank bank.pt --prior-checkpoint prior_extractor.ckpt "
        "--root data/pascal/JPEGImages; then lightning fit … --model.prior_bank bank.pt --model.bank_size 256",
    )
    parser.add_argument("output", type=expanded, help="file to write")
    parser.add_argument("--prior-checkpoint", type=expanded, required=True, help="prior_extractor.ckpt of stage 1")
    parser.add_argument("--root", type=expanded, required=True, help="folder of images, searched in depth")
    parser.add_argument("--list-file", type=expanded, help="image names, one per line; all images by default")
    parser.add_argument("--size", type=int, default=256, help="number of priors (default 256)")
    parser.add_argument("--method", choices=get_args(Method), default="kmeans", help="default kmeans")
    parser.add_argument("--images", type=int, default=500, help="how many images to draw at most (default 500)")
    parser.add_argument("--image-size", type=int, default=473, help="side of the square crops in pixels (default 473)")
    parser.add_argument("--seed", type=int, default=321, help="of all draws (default 321)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Build the bank and write it.

    Raises:
        InputError: if a file or the images cannot be used.
    """
    if options.output.exists():
        raise InputError(f"{options.output} exists. Choose another name, or remove it.")
    check_side(options.image_size, "--image-size")
    import numpy as np

    from datamodules.unlabeled import ImageFolder
    from qgnet.common.progress import progress
    from qgnet.tasks.base import make_encoder
    from qgnet.weights.bank import build_bank
    from qgnet.weights.store import load_encoder_weights, prior_architecture, save_prior_bank

    setting = "--prior-checkpoint"
    encoder = make_encoder(*prior_architecture(options.prior_checkpoint, setting))
    digest = load_encoder_weights(encoder, str(options.prior_checkpoint), setting)
    encoder.check_side(options.image_size, "--image-size")
    encoder.freeze()
    source = ImageFolder(options.root, options.list_file)
    chosen = np.random.default_rng(options.seed).permutation(len(source.names))[: options.images].tolist()
    try:
        images = crops(source, progress(chosen, "Features", unit="image"), options.image_size, options.seed)
        vectors = build_bank(encoder, images, options.size, options.method, options.seed)
    except ValueError as error:
        raise InputError(str(error)) from None
    built = {"method": options.method, "images": len(chosen), "seed": options.seed, "prior_sha256": digest}
    save_prior_bank(options.output, vectors, built)
    print(f"{len(vectors)} priors of {vectors.shape[1]} channels from {len(chosen)} images in {options.output}")


def crops(source: "ImageFolder", numbers: Iterable[int], side: int, seed: int) -> "Iterator[Tensor]":
    """Random crops as in training, normalised, (1, 3, side, side) each."""
    import numpy as np

    from datamodules.episodes.episode import to_tensor
    from datamodules.episodes.transforms import TrainAugmentation
    from qgnet.tasks.base import normalise

    augment = TrainAugmentation(side)
    for i in numbers:
        image = source.image(i)
        crop, _ = augment(image, np.zeros(image.shape[:2], np.uint8), seed + i)
        yield normalise(to_tensor(np.ascontiguousarray(crop)))[None]
