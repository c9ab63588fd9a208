"""How well masks follow edges: the default of ``qgnet segment`` beside one coarse square without refinement.

python benchmarks/edges.py --root data/voc20                           # folds 1 to 3, validation list
python benchmarks/edges.py --folder coco --least 2048                  # as `qgnet prepare folder` leaves it
python benchmarks/edges.py --coins                                     # scikit-image's coins, from one of them
python benchmarks/edges.py --root data/voc20 --models matching runs/…/last.ckpt --variants default

Episodes are drawn as by ``presence.py``: a query, supports of a class that it shows. Prints for each variant, with 1
and with 5 supports: mIoU, the mean of the images' own IoUs, FB-IoU, the boundary F-measure (tolerance 0.8 % of the
diagonal, as of DAVIS, Perazzi et al. 2016), the class that loses most against the first variant, and the processor's
seconds per image. Behind a mean stands its difference to the first variant, ± two standard errors over the episodes.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from skimage import data, filters, measure, segmentation
from skimage.morphology import disk, remove_small_holes

from datamodules import LabelledFolder, Pascal5i
from datamodules.files.sources import IGNORE, LabelledImages
from qgnet.common.boundary import boundary
from qgnet.common.progress import progress
from qgnet.inference.segmenter import Segmenter
from qgnet.metrics import EpisodeIoU
from qgnet.tasks.feature_cache import MB, FeatureCache

VARIANTS: dict[str, dict[str, Any]] = {
    "321 px": {"image_size": 321, "refine": "none"},
    "321 px, walk": {"image_size": 321, "refine": "walk"},
    "two scales": {"refine": "none"},
    "two scales, walk": {"refine": "walk"},
    "default": {},
}
TOLERANCE = 0.008
"""Of the image's diagonal, that a contour may be off."""
COINS = 24
CACHE = 2048 * MB
Mask = NDArray[np.uint8]


class Trial(NamedTuple):
    """One query by one variant."""

    class_id: int
    mask: Mask
    truth: Mask
    seconds: float


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="a folder in VOC's layout; fold 0, which has few images, is left out")
    parser.add_argument("--folder", help="a folder as `qgnet prepare folder` leaves it")
    parser.add_argument("--coins", action="store_true")
    parser.add_argument("--models", nargs="+", default=["matching"], help="names of `qgnet models`, or checkpoints")
    parser.add_argument("--least", type=int, default=512, help="pixels that a class covers where it counts as shown")
    parser.add_argument("--photographs", type=int, default=400, help="drawn at random")
    parser.add_argument("--episodes", type=int, default=100, help="for each number of shots")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--presence", type=float, help="least score (default: the command's)")
    options = parser.parse_args()
    segmenters: dict[str, Segmenter] = {}
    for model in options.models:
        cache = FeatureCache(CACHE)
        for name in options.variants:
            segmenter = Segmenter(model, **VARIANTS[name], presence=options.presence)
            segmenter.network.cache = cache
            segmenters[f"{model}: {name}" if len(options.models) > 1 else name] = segmenter
    if options.coins:
        for name, segmenter in segmenters.items():
            print(f"{name:20} {count_coins(segmenter)}")
    if options.root or options.folder:
        spec = LabelledFolder(Path(options.folder)) if options.folder else Pascal5i(Path(options.root))
        known = range(1, 255) if options.folder else range(6, 21)
        for shots in options.shots:
            measure_shots(segmenters, spec.images("val"), known, shots, options)


def measure_shots(
    segmenters: dict[str, Segmenter],
    source: LabelledImages,
    known: Sequence[int],
    shots: int,
    options: argparse.Namespace,
) -> None:
    """Print the table of one number of supports."""
    found: dict[str, list[Trial]] = {name: [] for name in segmenters}
    episodes = draw(source, known, shots, options)
    for query, class_id, supports in progress(episodes, f"{shots}-shot", unit="episode"):
        pairs = [(source.image(i), source.mask(i, class_id)) for i in supports]
        image, truth = source.image(query), source.mask(query, class_id)
        for name, segmenter in segmenters.items():
            segmenter.fit(pairs)
            segmenter.network.cache, kept = None, segmenter.network.cache
            started = time.process_time()
            mask = segmenter.predict(image).mask
            found[name].append(Trial(class_id, mask, truth, time.process_time() - started))
            segmenter.network.cache = kept
    print(f"{shots}-shot, {len(episodes)} episodes")
    first = next(iter(found.values()))
    for name, trials in found.items():
        print(f"{name:20} {row(trials, first)}", flush=True)


def draw(
    source: LabelledImages, known: Sequence[int], shots: int, options: argparse.Namespace
) -> list[tuple[int, int, list[int]]]:
    """Query, class and supports of each episode."""
    numbers = np.random.default_rng(0).permutation(len(source.names))[: options.photographs].tolist()
    areas = {i: source.facts(i).areas for i in numbers}
    shown = {c: [i for i in numbers if areas[i].get(c, 0) >= options.least] for c in known}
    shown = {c: members for c, members in shown.items() if len(members) > shots}
    queries = sorted({i for members in shown.values() for i in members})
    rng = np.random.default_rng(shots)
    episodes = []
    for _ in range(options.episodes):
        query = int(rng.choice(queries))
        class_id = int(rng.choice([c for c in shown if query in shown[c]]))
        others = [i for i in shown[class_id] if i != query]
        episodes.append((query, class_id, rng.choice(others, shots, replace=False).tolist()))
    return episodes


def row(trials: Sequence[Trial], first: Sequence[Trial]) -> str:
    """The figures of a variant beside those of the first one."""
    ious, fs = each(trials, iou), each(trials, boundary_f)
    classes = sorted({trial.class_id for trial in trials})
    per_class = [100 * (of_class(trials, c) - of_class(first, c)) for c in classes]
    gain, gain_f = (100 * (now - before) for now, before in ((ious, each(first, iou)), (fs, each(first, boundary_f))))
    error, error_f = (2 * g.std() / len(g) ** 0.5 for g in (gain, gain_f))
    scores = EpisodeIoU(classes)
    for trial in trials:
        scores.update(torch.from_numpy(trial.mask), torch.from_numpy(trial.truth), trial.class_id)
    total = scores.compute()
    return (
        f"mIoU {100 * total.miou:5.1f}  mean IoU {100 * ious.mean():5.1f} ({gain.mean():+.1f} ± {error:.1f})  "
        f"FB-IoU {100 * total.fb_iou:5.1f}  boundary F {100 * fs.mean():5.1f} ({gain_f.mean():+.1f} ± {error_f:.1f})  "
        f"worst class {min(per_class):+.1f}  {np.mean([t.seconds for t in trials]):.2f} s"
    )


def each(trials: Sequence[Trial], measured: Any) -> NDArray[np.float64]:
    """A measure of each trial's mask against the truth."""
    return np.array([measured(trial.mask, trial.truth) for trial in trials])


def of_class(trials: Sequence[Trial], class_id: int) -> float:
    """IoU of a class over all of its trials' pixels."""
    parts = [overlap(trial.mask, trial.truth) for trial in trials if trial.class_id == class_id]
    return sum(part[0] for part in parts) / max(1, sum(part[1] for part in parts))


def overlap(mask: Mask, truth: Mask) -> tuple[int, int]:
    """Pixels of intersection and union, without those that are ignored."""
    found, there = (mask == 1) & (truth != IGNORE), truth == 1
    return int((found & there).sum()), int((found | there).sum())


def iou(mask: Mask, truth: Mask) -> float:
    """Of one image."""
    intersection, union = overlap(mask, truth)
    return intersection / max(1, union)


def boundary_f(mask: Mask, truth: Mask) -> float:
    """F-measure of two masks' contours."""
    radius = max(1, round(TOLERANCE * float(np.hypot(*mask.shape))))
    around = disk(radius).astype(np.uint8)
    masks = [(mask == 1) & (truth != IGNORE), truth == 1]
    contours = [segmentation.find_boundaries(m, mode="inner").astype(np.uint8) for m in masks]
    if not contours[0].any() or not contours[1].any():
        return float(contours[0].any() == contours[1].any())
    near = [cv2.dilate(contour, around) for contour in contours]
    precision = (contours[0] & near[1]).sum() / contours[0].sum()
    recall = (contours[1] & near[0]).sum() / contours[1].sum()
    return float(2 * precision * recall / max(1e-9, precision + recall))


def count_coins(segmenter: Segmenter) -> str:
    """How many of scikit-image's coins are found by one of them, at an IoU of 0.85 and at 0.5."""
    image = data.coins()
    mask = np.full(image.shape, IGNORE, np.uint8)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    mask[10:85, 10:80] = 0
    mask[(y - 51) ** 2 + (x - 44) ** 2 < 22**2] = 1
    parts = measure.label(segmenter.fit([(image, mask)]).predict(image).mask)
    markers = np.where(image < 30, 1, np.where(image > 150, 2, 0))  # scikit-image's own example
    coins = measure.label(remove_small_holes(segmentation.watershed(filters.sobel(image), markers) == 2))
    truths = [coins == r.label for r in measure.regionprops(coins) if r.area > 500]
    assert len(truths) == COINS
    best = []
    for truth in truths:
        touching = [parts == label for label in np.unique(parts[truth]) if label]
        best.append(max([(truth & part).sum() / (truth | part).sum() for part in touching], default=0.0))
    return f"{sum(b >= 0.85 for b in best)} of {COINS} at an IoU of 0.85, {sum(b >= 0.5 for b in best)} at 0.5"


if __name__ == "__main__":
    with boundary("Run it again to measure."):
        main()
