"""Measures the calibration of a model's scores on photographs, and fits it on others.

python benchmarks/presence.py --root data/voc20            # matching on the validation list
python benchmarks/presence.py --root data/voc20 --model runs/…/last.ckpt --write its_calibration.json
python benchmarks/presence.py --folder coco --least 2048   # all of a folder as `qgnet prepare folder` leaves it
python benchmarks/presence.py --root data/voc20 --write src/qgnet/inference/calibrations/matching.json

With --write it is fitted on the training list before. Draws pairs of episodes: a query with supports of a class that
it shows, and of one that it does not. Prints what leaving photographs empty brings and costs: mIoU, and the mean of the
photographs' IoUs, of those that show the class at the threshold of a half with none left empty (the test's rule), and
at the calibration's threshold with and without those that it leaves empty.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from datamodules import LabelledFolder, Pascal5i
from datamodules.episodes.letterbox import letterbox_image, letterbox_support
from datamodules.files.sources import LabelledImages
from qgnet.common.boundary import boundary
from qgnet.common.errors import InputError
from qgnet.common.progress import progress
from qgnet.inference import PRESENCE
from qgnet.inference.models import Model, open_model
from qgnet.inference.presence import Calibration, evidence, mean_feature, valid_positions
from qgnet.inference.tuning import HALF, THRESHOLDS, iou
from qgnet.inference.validation import plain
from qgnet.metrics import EpisodeIoU
from qgnet.networks.nested_tensors import map_tensors
from qgnet.tasks.base import normalise


class Photo(NamedTuple):
    """A photograph with everything that episodes need of it.

    Attributes:
        query: it as a query, in float16.
        supports: class → it as a support of this class, in float16.
        mean: (1, C) mean of the features that a score goes by.
        inside: (1, S, S) bool, where its square is not padding.
        masks: class → (S, S) in {0, 1, 255}.
        shown: classes that cover enough of it to count as shown.
    """

    query: Any
    supports: dict[int, Any]
    mean: Tensor
    inside: Tensor
    masks: dict[int, Tensor]
    shown: set[int]


class Trial(NamedTuple):
    """One query under one class's supports."""

    class_id: int
    shots: int
    present: bool
    evidence: Tensor
    support_similarity: float
    probability: Tensor
    truth: Tensor


def main() -> None:
    """Measure on the validation list, after fitting on the training list if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default="data/voc20", help="a folder in VOC's layout")
    parser.add_argument("--model", default="matching", help="a name that `qgnet models` lists, or a checkpoint")
    parser.add_argument("--photographs", type=int, default=400, help="of each list, drawn at random")
    parser.add_argument("--episodes", type=int, default=300, help="for each number of shots")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--image-size", type=int, help="side of the square, 8n + 1 px (default: the model's)")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16")
    parser.add_argument("--presence", type=float, nargs="+", default=[PRESENCE], help="least scores to measure with")
    parser.add_argument("--write", type=Path, help="fit a calibration on the training list, and write it to this file")
    parser.add_argument("--folder", help="instead of --root: a folder as `qgnet prepare folder` leaves it")
    parser.add_argument("--least", type=int, default=512, help="pixels that a class covers where it counts as shown")
    options = parser.parse_args()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.bf16):
        measure_lists(options)


def measure_lists(options: argparse.Namespace) -> None:
    """Fit if that is asked for, and measure."""
    model = open_model(options.model, options.image_size)
    folder = LabelledFolder(Path(options.folder)) if options.folder else None
    data = folder or Pascal5i(Path(options.root))
    calibration = model.calibration
    if calibration is None and not options.write:
        raise InputError(f"The scores of {options.model} are not calibrated. Give --write FILE to fit a calibration.")
    if options.write:
        photos = read(model, data.images("val" if folder else "train"), options)
        centre = centre_of(photos)
        trials = draw(model, photos, centre, options)
        calibration = fit(trials, centre)._replace(sides=(model.image_size,))
        print(f"fitted: {calibration._replace(centre=calibration.centre[:2])}")
        tell("training list", trials, calibration, options.presence)
        options.write.write_text(json.dumps(plain(calibration)) + "\n")
    assert calibration is not None
    photos = read(model, data.images("val"), options)
    trials = draw(model, photos, torch.tensor(calibration.centre), options)
    tell("validation list", trials, calibration, options.presence)


def tell(name: str, trials: Sequence[Trial], calibration: Calibration, presences: Sequence[float]) -> None:
    """Print what a calibration brings and costs, for each number of shots and each least score."""
    for shots in sorted({trial.shots for trial in trials}):
        for presence in presences:
            of_shots = [trial for trial in trials if trial.shots == shots]
            print(f"{name}, {shots}-shot, from {presence}: {measure(of_shots, calibration, presence)}")


@torch.inference_mode()
def read(model: Model, source: LabelledImages, options: argparse.Namespace) -> list[Photo]:
    """Photographs of a source, drawn at random."""
    numbers = np.random.default_rng(0).permutation(len(source.names))[: options.photographs].tolist()
    return [encode(model, source, i, options.least) for i in progress(numbers, "photographs", unit="photograph")]


def centre_of(photos: Sequence[Photo]) -> Tensor:
    """(C,) mean feature of photographs, each counting alike."""
    return torch.cat([photo.mean for photo in photos]).mean(dim=0)


@torch.inference_mode()
def draw(model: Model, photos: Sequence[Photo], centre: Tensor, options: argparse.Namespace) -> list[Trial]:
    """Trials among photographs, for each number of shots."""
    rng = np.random.default_rng(1)
    trials = []
    for shots in options.shots:
        classes = sorted(set().union(*(photo.shown for photo in photos)))
        of_class = {c: [i for i, photo in enumerate(photos) if c in photo.shown] for c in classes}
        of_class = {c: members for c, members in of_class.items() if len(members) > shots}
        queries = sorted({i for members in of_class.values() for i in members})
        for _ in progress(range(options.episodes), f"{shots}-shot", unit="episode"):
            query = int(rng.choice(queries))
            right = int(rng.choice([c for c in of_class if query in of_class[c]]))
            absent = [c for c in of_class if c not in photos[query].masks]
            for class_id in (right, *rng.permutation(absent)[:1].tolist()):
                others = [i for i in of_class[class_id] if i != query]
                supports = [photos[i] for i in rng.choice(others, shots, replace=False)]
                trials.append(attempt(model, photos[query], supports, class_id, centre))
    return trials


def encode(model: Model, source: LabelledImages, i: int, least: int) -> Photo:
    """Photograph ``i`` of a source."""
    image, areas = source.image(i), source.facts(i).areas
    fitted = letterbox_image(image, model.image_size)
    masks = {c: letterbox_support(image, source.mask(i, c), model.image_size)[1] for c in areas}
    square, net = normalise(fitted.squares), model.net
    shared = net.shared_features(square)
    query = net.encode_query(square, shared)
    supports = {c: net.encode_support(square, mask[None], shared) for c, mask in masks.items()}
    nothing = torch.zeros(1, model.image_size, model.image_size, dtype=torch.uint8)
    compared = net.presence_features(query, net.stack_shots([net.encode_support(square, nothing, shared)]))
    if compared is None:
        raise InputError(f"{model.source} compares no features that a score could be calibrated by.")
    inside, feature = fitted.inside(), compared[0]
    valid = valid_positions(inside, (feature.shape[-2], feature.shape[-1])).float()
    shown = {c for c, area in areas.items() if area >= least}
    return Photo(half(query), half(supports), mean_feature(feature.flatten(2), valid), inside, masks, shown)


def half(encoded: Any) -> Any:
    """Floats of what is encoded in float16."""
    return map_tensors(lambda tensor: tensor.half() if tensor.is_floating_point() else tensor, encoded)


def full(encoded: Any) -> Any:
    """In float32 again."""
    return map_tensors(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor, encoded)


def attempt(model: Model, query: Photo, supports: list[Photo], class_id: int, centre: Tensor) -> Trial:
    """Segment a query by supports of a class."""
    shots = [full(support.supports[class_id]) for support in supports]
    score_maps, told = look(model, query, shots, centre)
    among = [look(model, s, shots[:k] + shots[k + 1 :], centre)[1] for k, s in enumerate(supports) if len(shots) > 1]
    support_similarity = float(torch.stack(among)[:, 0].mean()) if among else 0.0
    truth = query.masks.get(class_id, torch.zeros(score_maps.shape[1:], dtype=torch.uint8))
    known = class_id in query.masks
    return Trial(class_id, len(supports), known, told, support_similarity, score_maps[0].sigmoid().half(), truth)


def look(model: Model, photo: Photo, shots: list[Any], centre: Tensor) -> tuple[Tensor, Tensor]:
    """The score maps (1, S, S) of a photograph under some supports, and the evidence (2,)."""
    known, size, query = model.net.stack_shots(shots), (model.image_size, model.image_size), full(photo.query)
    logits = model.net.decode(query, known, size).logits
    score_maps = logits[:, 1] - logits[:, 0]
    compared = model.net.presence_features(query, known)
    assert compared is not None
    return score_maps, evidence(*compared, score_maps, photo.inside, centre)[0]


def fit(trials: Sequence[Trial], centre: Tensor) -> Calibration:
    """Logistic regression of presence on what `Calibration` goes by, and the threshold of a single support."""
    rows = [[*trial.evidence.tolist(), trial.support_similarity, np.log2(trial.shots), 1.0] for trial in trials]
    x, y = np.array(rows), np.array([1.0 if trial.present else -1.0 for trial in trials])

    def loss(weights: NDArray[np.float64]) -> float:
        return float(np.logaddexp(0, -y * (x @ weights)).mean())

    weights = (round(float(w), 2) for w in minimize(loss, np.zeros(5)).x)
    similarity, strength, support_similarity, shots, offset = weights
    alone = [trial for trial in trials if trial.shots == 1 and trial.present]
    threshold = max(THRESHOLDS, key=lambda t: sum(iou(trial.probability > t, trial.truth) for trial in alone))
    known = tuple(round(float(c), 5) for c in centre)
    return Calibration(similarity, strength, shots, offset, threshold, known, support_similarity)


def measure(trials: Sequence[Trial], calibration: Calibration, presence: float) -> str:
    """What the threshold, and leaving photographs empty, bring and cost."""
    scores_of = (float(calibration.probability(t.evidence[None], t.shots, t.support_similarity)) for t in trials)
    kept = [score >= presence for score in scores_of]
    shown = [(trial, keep) for trial, keep in zip(trials, kept, strict=True) if trial.present]
    absent = [not keep for trial, keep in zip(trials, kept, strict=True) if not trial.present]
    threshold = calibration.threshold if trials[0].shots == 1 else HALF
    masks = {
        "test's rule": [trial.probability > HALF for trial, _ in shown],
        f"threshold {threshold}": [trial.probability > threshold for trial, _ in shown],
        "and empty ones": [(trial.probability > threshold) & keep for trial, keep in shown],
    }
    scores = [f"{name} {score([trial for trial, _ in shown], found)}" for name, found in masks.items()]
    return (
        f"{100 * np.mean(absent):.0f} % of {len(absent)} absent left empty, "
        f"{100 * np.mean([keep for _, keep in shown]):.0f} % of {len(shown)} present kept; mIoU and mean IoU: "
        f"{', '.join(scores)}"
    )


def score(trials: Sequence[Trial], masks: Sequence[Tensor]) -> str:
    """MIoU over classes, and the mean IoU of the photographs."""
    total = EpisodeIoU(sorted({trial.class_id for trial in trials}))
    for trial, mask in zip(trials, masks, strict=True):
        total.update(mask.to(torch.uint8), trial.truth, trial.class_id)
    each = [iou(mask, trial.truth) for trial, mask in zip(trials, masks, strict=True)]
    return f"{100 * total.compute().miou:.1f} / {100 * np.mean(each):.1f}"


if __name__ == "__main__":
    with boundary("Run it again to measure."):
        main()
