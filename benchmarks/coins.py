"""The coins of the README: one marked, the others found, by the real command.

python benchmarks/coins.py coins     # writes coins/{photographs/coins.png,one.png,masks/} and docs/coins.png
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.data import coins

from datamodules.files.sources import IGNORE
from qgnet.commands import main as qgnet
from qgnet.common.boundary import boundary
from qgnet.outputs.marking import draw_masks

CENTRE = (51, 44)
RADIUS = 22
AROUND = np.s_[10:85, 10:80]
"""What is said to be background beside the coin; of all else nothing is said, since there are other coins."""


def main() -> None:
    """Write photograph and mask, segment, and put both into one picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--picture", type=Path, default=Path("docs/coins.png"))
    options = parser.parse_args()
    photograph = options.folder / "photographs/coins.png"
    photograph.parent.mkdir(parents=True, exist_ok=True)
    image = coins()
    mask = np.full(image.shape, IGNORE, np.uint8)
    mask[AROUND] = 0
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    mask[(y - CENTRE[0]) ** 2 + (x - CENTRE[1]) ** 2 < RADIUS**2] = 1
    Image.fromarray(image).save(photograph)
    Image.fromarray(mask).save(options.folder / "one.png")
    given = ["--support", str(photograph), str(options.folder / "one.png")]
    qgnet(["segment", str(photograph.parent), *given, "--out", str(options.folder / "masks")])
    found = np.asarray(Image.open(options.folder / "masks/coins.png"))
    picture = np.repeat(image[:, :, None], 3, axis=2)
    pair = [draw_masks(picture, np.where(mask == IGNORE, 0, mask).astype(np.uint8)), draw_masks(picture, found)]
    Image.fromarray(np.concatenate(pair, axis=1)).save(options.picture)


if __name__ == "__main__":
    with boundary("Run it again to measure."):
        main()
