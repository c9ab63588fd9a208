"""How many single objects are counted, against how many there are; and what the constants of the split are worth.

python benchmarks/instances.py --coco data/coco     # val2017/ and annotations/instances_val2017.json, as downloaded

- coins, grown: the 24 coins of scikit-image's photograph, by its watershed, each grown by 0 to 15 px until all touch;
- coins, found: what a Segmenter finds by one of them at 641 px, cut at thresholds of 0.2 to 0.6;
- COCO, true: the masks of each class in each photograph without crowds, its objects joined;
- COCO, found: what a Segmenter finds by the photograph that shows most of the class, in up to seven others.

Printed is the mean absolute error of the count, and the share of counts that are right; connected parts are those that
are no specks.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_masks
from scipy import ndimage
from skimage.data import coins
from skimage.filters import sobel
from skimage.measure import label
from skimage.segmentation import watershed

from benchmarks.coins import AROUND, CENTRE, RADIUS
from datamodules.files import read_image
from datamodules.files.sources import IGNORE
from qgnet.common.boundary import boundary
from qgnet.common.progress import progress
from qgnet.inference.segmenter import Segmenter
from qgnet.outputs import instances

Mask = NDArray[np.uint8]
Cases = list[tuple[Mask, int]]
"""(H, W) in {0, 1}, and how many objects there are."""
COINS = 24
LEAST = 1000
"""Pixels of a class in a query of COCO's."""
QUERIES = 7
VARIED = {
    "SMALLEST": (0.001, 0.02, 0.05, 0.1, 0.2),
    "NECK": (0.5, 0.6, 0.7, 0.8),
    "SOLID": (0.8, 0.85, 0.9, 0.95),
    "EDGE": (0.01, 1.0, 2.0),
}


def main() -> None:
    """Print the errors of connected parts, of the split, and of it with each constant varied."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coco", type=Path, required=True)
    options = parser.parse_args()
    true = coco_objects(options.coco / "annotations/instances_val2017.json")
    cases = {
        "coins, grown": grown_coins(),
        "coins, found": found_coins(),
        "COCO, true": [(joined(masks), len(masks)) for of_class in true.values() for masks in of_class.values()],
        "COCO, found": found_in_coco(options.coco / "val2017", true),
    }
    print(f"{'':24}" + "".join(f"{name} ({len(some)})".rjust(22) for name, some in cases.items()))
    report("connected parts", cases, parts=True)
    report("split", cases)
    for name, values in VARIED.items():
        chosen = getattr(instances, name)
        for value in values:
            setattr(instances, name, value)
            report(f"{name} = {value}{' (chosen)' if value == chosen else ''}", cases)
        setattr(instances, name, chosen)


def report(name: str, cases: dict[str, Cases], parts: bool = False) -> None:
    """Print a line."""
    line = f"{name:24}"
    for some in cases.values():
        errors = np.array([(large_parts(mask) if parts else instances.split(mask).max()) - n for mask, n in some])
        line += f"{np.abs(errors).mean():14.2f} {(errors == 0).mean():6.0%} "
    print(line, flush=True)


def large_parts(mask: Mask) -> int:
    """How many connected parts are no specks."""
    areas = np.bincount(label(mask, connectivity=2).ravel())[1:]
    return int((areas >= instances.SMALLEST * areas.max(initial=0)).sum())


def grown_coins() -> Cases:
    """By the watershed of scikit-image's user guide."""
    image = coins()
    found = watershed(sobel(image), np.where(image < 30, 1, np.where(image > 150, 2, 0))) == 2
    mask = ndimage.binary_fill_holes(found).astype(np.uint8)
    sides = range(1, 32, 2)
    discs = [cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)) for side in sides]
    return [(cv2.dilate(mask, disc).astype(np.uint8), COINS) for disc in discs]


def found_coins() -> Cases:
    """From the coin, and the surroundings, of ``benchmarks/coins.py``."""
    image = coins()
    mask = np.full(image.shape, IGNORE, np.uint8)
    mask[AROUND] = 0
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    mask[(y - CENTRE[0]) ** 2 + (x - CENTRE[1]) ** 2 < RADIUS**2] = 1
    result = Segmenter(image_size=641, device="cpu", presence=0).fit([(image, mask)]).predict(image)
    return [((result.probability > threshold / 20).astype(np.uint8), COINS) for threshold in range(4, 13)]


def coco_objects(annotations: Path) -> dict[int, dict[str, list[Mask]]]:
    """Class → photograph's file → the masks of its objects."""
    content = json.loads(annotations.read_text())
    images = {image["id"]: image for image in content["images"]}
    crowds = {(one["category_id"], one["image_id"]) for one in content["annotations"] if one["iscrowd"]}
    found: dict[int, dict[str, list[Mask]]] = defaultdict(lambda: defaultdict(list))
    for one in content["annotations"]:
        if (one["category_id"], one["image_id"]) not in crowds:
            image = images[one["image_id"]]
            runs = coco_masks.merge(coco_masks.frPyObjects(one["segmentation"], image["height"], image["width"]))
            found[one["category_id"]][image["file_name"]].append(coco_masks.decode(runs))
    return found


def found_in_coco(photographs: Path, true: dict[int, dict[str, list[Mask]]]) -> Cases:
    """One support each; queries in which nothing is found are left out."""
    segmenter, cases = Segmenter(device="cpu", presence=0), []
    for of_class in progress(list(true.values()), "COCO", unit="class"):
        areas = {file: int(joined(masks).sum()) for file, masks in of_class.items()}
        first, *others = sorted(areas, key=lambda file: -areas[file])[: QUERIES + 1]
        queries = [file for file in others if areas[file] >= LEAST]
        if not queries:
            continue
        segmenter.fit([(read_image(photographs / first), joined(of_class[first]))])
        found = segmenter.predict_many([read_image(photographs / file) for file in queries])
        cases += [(one.mask, len(of_class[file])) for one, file in zip(found, queries, strict=True) if not one.empty]
    return cases


def joined(masks: Sequence[Mask]) -> Mask:
    """All objects as one mask."""
    union: Mask = np.maximum.reduce(list(masks))
    return union


if __name__ == "__main__":
    with boundary("Run it again to measure."):
        main()
