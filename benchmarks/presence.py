"""Fits the calibration of training-free matching's scores on one list of photographs and measures it on another.

python benchmarks/presence.py --root data/voc20

Draws episodes as a test does, half of them with supports of a class that the query does not show.
"""

import argparse
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor
from tqdm import tqdm

from datamodules.fitted import fit_picture, fit_support
from datamodules.pascal5i import Pascal5iDataModule
from qgnet.metrics import EpisodeIoU
from qgnet.models import Model, open_model
from qgnet.networks.matcher import Matcher
from qgnet.networks.matching import of_all_shots, positions
from qgnet.presence import Calibration, evidence
from qgnet.segmenter import PRESENCE
from qgnet.tasks.base import normalise

CLASSES = range(1, 21)
LEAST = 512
"""Pixels that a class covers where it counts as shown."""


class Photo(NamedTuple):
    """A photograph with everything that episodes need of it."""

    features: Tensor
    inside: Tensor
    labels: Tensor
    shown: set[int]
    whole: set[int]


class Trial(NamedTuple):
    """One query under one class's supports."""

    class_id: int
    shots: int
    present: bool
    evidence: Tensor
    mask: Tensor
    truth: Tensor


def main() -> None:
    """Fit on the training list, measure on the validation list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default="data/voc20", help="a folder in VOC's layout")
    parser.add_argument("--photographs", type=int, default=400, help="of each list, drawn at random")
    parser.add_argument("--episodes", type=int, default=300, help="for each number of shots")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--image-size", type=int, help="side of the square, 8n + 1 px (default: the model's)")
    options = parser.parse_args()
    model = open_model("matching", options.image_size)
    trials = {split: draw(model, split, options) for split in ("train", "val")}
    calibration = fit(trials["train"])
    print(f"fitted: {calibration}")
    for split, of_split in trials.items():
        for shots in options.shots:
            chosen = [trial for trial in of_split if trial.shots == shots]
            print(f"{split} {shots}-shot, fitted: {measure(chosen, calibration)}")
            if model.calibration:
                print(f"{split} {shots}-shot, as it is in the package: {measure(chosen, model.calibration)}")


@torch.inference_mode()
def draw(model: Model, split: str, options: argparse.Namespace) -> list[Trial]:
    """Trials of a list, for each number of shots."""
    source = Pascal5iDataModule(options.root, fold=0, min_class_area=LEAST).source(split)
    rng = np.random.default_rng(0)
    numbers = rng.permutation(len(source.names))[: options.photographs].tolist()
    photos = [encode(model, source, i) for i in tqdm(numbers, split)]
    trials = []
    for shots in options.shots:
        of_class = {c: [i for i, photo in enumerate(photos) if c in photo.shown] for c in CLASSES}
        of_class = {c: members for c, members in of_class.items() if len(members) > shots}
        queries = sorted({i for members in of_class.values() for i in members})
        for _ in tqdm(range(options.episodes), f"{shots}-shot"):
            query = int(rng.choice(queries))
            right = int(rng.choice([c for c in of_class if query in of_class[c]]))
            wrong = int(rng.choice([c for c in of_class if c not in photos[query].whole]))
            for class_id in (right, wrong):
                others = [i for i in of_class[class_id] if i != query]
                supports = [photos[i] for i in rng.choice(others, shots, replace=False)]
                trials.append(attempt(model, photos[query], supports, class_id))
    return trials


def encode(model: Model, source: Any, i: int) -> Photo:
    """Photograph ``i`` of a source."""
    image, labels = source.image(i), source.labels(i)
    fitted = fit_picture(image, model.image_size)
    assert isinstance(model.net, Matcher)
    features = model.net.encode_query(normalise(fitted.squares))
    _, square = fit_support(image, labels, model.image_size)
    shown = {c for c in CLASSES if (labels == c).sum() >= LEAST}
    return Photo(features.half(), fitted.inside(), square, shown, set(np.unique(labels).tolist()))


def attempt(model: Model, query: Photo, supports: list[Photo], class_id: int) -> Trial:
    """Segment a query by supports of a class."""
    found = [positions(s.features.float(), binary(s.labels, class_id)[None]) for s in supports]
    known = of_all_shots(found)
    output = model.net.decode(query.features.float(), known, (model.image_size, model.image_size))  # type: ignore[arg-type]
    margins = output.logits[:, 1] - output.logits[:, 0]
    told = evidence(query.features, known, margins, query.inside)[0]
    mask = (margins[0] > 0).to(torch.uint8)
    return Trial(class_id, len(supports), class_id in query.whole, told, mask, binary(query.labels, class_id))


def binary(labels: Tensor, class_id: int) -> Tensor:
    """Class numbers → 1 the class, 255 ignored, 0 the rest."""
    return torch.where(labels == 255, 255, (labels == class_id).to(torch.uint8)).to(torch.uint8)


def fit(trials: list[Trial]) -> Calibration:
    """Logistic regression of presence on the evidence and the number of shots."""
    rows = [[*trial.evidence.tolist(), np.log2(trial.shots), 1.0] for trial in trials]
    x, y = np.array(rows), np.array([1.0 if trial.present else -1.0 for trial in trials])

    def loss(weights: NDArray[np.float64]) -> float:
        return float(np.logaddexp(0, -y * (x @ weights)).mean())

    return Calibration(*(round(float(w), 2) for w in minimize(loss, np.zeros(4)).x))


def measure(trials: list[Trial], calibration: Calibration) -> str:
    """What leaving photographs empty brings and costs."""
    classes = sorted({trial.class_id for trial in trials if trial.present})
    before, after = EpisodeIoU(classes), EpisodeIoU(classes)
    kept: dict[bool, list[bool]] = {True: [], False: []}
    for trial in trials:
        keep = bool(calibration.probability(trial.evidence[None], trial.shots) >= PRESENCE)
        kept[trial.present].append(keep)
        if trial.present:
            before.update(trial.mask, trial.truth, trial.class_id)
            after.update(trial.mask * keep, trial.truth, trial.class_id)
    absent, present = 1 - np.mean(kept[False]), np.mean(kept[True])
    return (
        f"{100 * absent:.0f} % of the absent left empty, {100 * present:.0f} % of the present kept, mIoU "
        f"{100 * before.compute().miou:.1f} → {100 * after.compute().miou:.1f}"
    )


if __name__ == "__main__":
    main()
