"""What rough strokes are worth against whole masks.

python benchmarks/strokes.py --root data/voc20

Episodes of VOC's folds 1 to 3 by the `Segmenter`, whose supports have whole masks, or strokes by a fixed rule: on each
connected part of the object one along its skeleton, from its deepest place on, of 2 % of its area; on the background
as much, in four strokes by the same rule, above, below, left and right of the object's middle. The brush is 1 % of the
image's longer side wide. Object and background are 1 and 0, all else 255, not known.
`scribbles=True` grows them to the edge of the object, which is what `--scribbles` and the page do.
"""

import argparse
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.graph import MCP
from skimage.measure import label
from skimage.morphology import skeletonize

from datamodules import Pascal5iDataModule
from datamodules.files.sources import IGNORE, Array
from qgnet import Segmenter
from qgnet.common.boundary import boundary
from qgnet.common.progress import progress
from qgnet.inference.snap import distance

FOLDS = (1, 2, 3)
SIDE = 321
SHARE = 0.02
"""Of the object's area, the strokes'."""
LEAST_PART = 0.05
"""Of the object's area, that a connected part has if it gets a stroke."""
BRUSH = 0.01
"""Width of the brush, of the image's longer side."""
Pair = tuple[Array, Array]
Masks = Callable[[Array], Array]
SCRIBBLES = "strokes, scribbles=True"


class Trial(NamedTuple):
    """The class, its supports, and the query with its truth."""

    class_id: int
    supports: list[Pair]
    query: Pair


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data/voc20", help="a folder in VOC's layout")
    parser.add_argument("--episodes", type=int, default=20, help="for each fold and number of shots")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    options = parser.parse_args()
    segmenter = Segmenter(image_size=SIDE, presence=0.0).remember(1024)
    ways: dict[str, Masks | None] = {
        "whole masks": lambda mask: mask,
        SCRIBBLES: strokes_of,
        "strokes as masks of 0, 1, 255": strokes_of,
        "strokes as whole masks": lambda mask: (strokes_of(mask) == 1).astype(np.uint8),
        "everything is the object": None,
    }
    for shots in options.shots:
        trials = [trial for fold in FOLDS for trial in draw(options.root, fold, shots, options.episodes)]
        print(f"{shots}-shot, {len(trials)} episodes: mean IoU, mIoU; of whole masks")
        whole = None
        for name, masks in ways.items():
            scores = measure(segmenter, trials, masks, name)
            whole = scores if whole is None else whole
            parts = ", ".join(f"{100 * score / of:3.0f} %" for score, of in zip(scores, whole, strict=True))
            print(f"  {name:30s} {scores[0]:5.1f} {scores[1]:5.1f}   {parts}", flush=True)


def draw(root: str, fold: int, shots: int, episodes: int) -> list[Trial]:
    """Episodes of the test of a fold."""
    data = Pascal5iDataModule(root, fold=fold, shots=shots, image_size=SIDE, episodes=episodes, min_class_area=512)
    data.setup("test")
    dataset = data.data["val"]
    source, trials = dataset.source, []
    number = {name: n for n, name in enumerate(source.names)}
    for i in range(episodes):
        episode = dataset[i]
        class_id = int(episode.class_id)
        pairs = [
            (source.image(number[name]), source.mask(number[name], class_id))
            for name in (*episode.support_names[0], *episode.query_name)
        ]
        trials.append(Trial(class_id, pairs[:-1], pairs[-1]))
    return trials


def measure(segmenter: Segmenter, trials: list[Trial], masks: Masks | None, name: str) -> tuple[float, float]:
    """Mean IoU of the queries' objects, and mIoU of the classes; ``masks`` makes the supports' of the truth."""
    sums: dict[int, NDArray[np.float64]] = {}
    each = []
    for trial in progress(trials, name, unit="episode"):
        image, truth = trial.query
        found = np.ones(truth.shape, bool)
        if masks is not None:
            pairs = [(support, masks(mask)) for support, mask in trial.supports]
            segmenter.fit(pairs, scribbles=name == SCRIBBLES)
            found = segmenter.predict(image).best.mask == 1
        inside = truth != IGNORE
        counts = np.array([(found & (truth == 1)).sum(), ((found | (truth == 1)) & inside).sum()], float)
        sums[trial.class_id] = sums.get(trial.class_id, 0) + counts
        each.append(counts[0] / max(1, counts[1]))
    return 100 * float(np.mean(each)), 100 * float(np.mean([of[0] / max(1, of[1]) for of in sums.values()]))


def strokes_of(mask: Array) -> Array:
    """Strokes (H, W) in {0, 1, 255} of a whole mask (H, W) in {0, 1, 255}."""
    width = max(1, round(BRUSH * max(mask.shape)))
    whole, strokes = mask == 1, np.full(mask.shape, IGNORE, np.uint8)
    parts = label(whole, connectivity=1)
    for part in (parts == n for n in range(1, parts.max() + 1)):
        if part.sum() >= LEAST_PART * whole.sum():
            strokes[stroke(part, SHARE * part.sum(), width)] = 1
    sides = [side for side in around(whole, mask == 0) if side.any()]
    for side in sides:
        strokes[stroke(side, SHARE * whole.sum() / len(sides), width)] = 0
    return strokes


def around(whole: NDArray[np.bool_], background: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """The background above, below, left and right of an object's middle."""
    rows, columns = np.nonzero(whole)
    y, x = np.mgrid[: whole.shape[0], : whole.shape[1]]
    down, right = (y - rows.mean()) / whole.shape[0], (x - columns.mean()) / whole.shape[1]
    sides = (abs(right) <= -down, abs(right) <= down, abs(down) < -right, abs(down) < right)
    return [background & side for side in sides]


def stroke(area: NDArray[np.bool_], pixels: float, width: int) -> NDArray[np.bool_]:
    """A stroke of at most so many pixels, one at least, along the skeleton of an area, from its deepest place on."""
    padded = np.pad(area, 1)
    depth = distance(~padded)[1:-1, 1:-1]
    skeleton = skeletonize(padded)[1:-1, 1:-1]
    start = np.unravel_index(np.argmax(np.where(skeleton, depth, -1)), depth.shape)
    way = MCP(np.where(skeleton, 1.0, -1.0)).find_costs([start])[0]
    places = np.argwhere(np.isfinite(way))
    places = places[np.argsort(way[tuple(places.T)], kind="stable")]

    def drawn(length: int) -> NDArray[np.bool_]:
        line = np.zeros(area.shape, bool)
        line[tuple(places[:length].T)] = True
        return area & (distance(line) <= width / 2)

    fewest, most = 1, len(places)
    while fewest < most:
        middle = (fewest + most + 1) // 2
        fewest, most = (middle, most) if drawn(middle).sum() <= pixels else (fewest, middle - 1)
    dot = np.argwhere(drawn(fewest))
    nearest = np.argsort(((dot - start) ** 2).sum(axis=1), kind="stable")
    kept = dot[nearest[: max(1, int(pixels))]] if len(dot) > pixels else dot
    found = np.zeros(area.shape, bool)
    found[tuple(kept.T)] = True
    return found


if __name__ == "__main__":
    cv2.setNumThreads(1)
    with boundary("Run it again to measure."):
        main()
