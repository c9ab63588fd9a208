"""Few-shot networks on one bench: the same features, the same episodes, one table.

python benchmarks/heads.py --root data/voc20 --fold 2 --episodes 300 HSNet=runs/hsnet/…/checkpoints/last.ckpt \
    DCAMA=….ckpt PFENet=….ckpt "QGNet, paper"=….ckpt "QGNet, ours"=….ckpt

Each argument is a name and a checkpoint of any task over episodes, or a name that `qgnet models` lists. Beside them
stand the four training-free matchers over --encoder. Printed as Markdown: the encoder with a digest of its weights,
parameters trained, minutes from the beginning of the training's run to its checkpoint, milliseconds per episode with
all images encoded (the median of the decoding alone, on the device that torch takes; one thread per core), and mIoU /
FB-IoU in % at the images' own sizes by the protocol, 1- and 5-shot. Classes that a checkpoint was trained on are
refused as novel.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest.mock import patch

import torch

from datamodules import Pascal5iDataModule
from datamodules.datasets.protocols import Protocol
from datamodules.episodes.letterbox import restore
from datamodules.episodic import EpisodeDataModule
from qgnet.common.boundary import boundary
from qgnet.common.errors import InputError
from qgnet.common.progress import progress
from qgnet.inference.models import Model, open_model, rebuild
from qgnet.inference.packaged_heads import digest_of
from qgnet.metrics import EpisodeIoU, EpisodeScore
from qgnet.networks.encoders import Encoder
from qgnet.networks.few_shot import FewShotNetwork
from qgnet.networks.matching import MatchingNetwork
from qgnet.networks.score_maps import SCORE_MAPS
from qgnet.runs.folders import checkpoint_run
from qgnet.runs.tables import markdown
from qgnet.tasks.classes import TrainedClasses
from qgnet.tasks.feature_cache import CachedInference
from qgnet.weights.files import read_tensors
from qgnet.weights.packaged import ENCODER
from qgnet.weights.store import PACKAGED

CACHE_MB = 4096


class Row(NamedTuple):
    """What the table says of a network; scores by number of shots."""

    name: str
    features: str
    parameters: int
    minutes: float | None
    milliseconds: float
    scores: dict[int, EpisodeScore]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", type=named, metavar="NAME=CHECKPOINT")
    parser.add_argument("--root", default="data/voc20", help="a folder in VOC's layout")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=321, help="of the episodes")
    parser.add_argument("--protocol", default="qgnet", choices=("qgnet", "pfenet", "hsnet", "bam"))
    parser.add_argument("--image-size", type=int, default=321, help="of all networks, 8n + 1 px")
    parser.add_argument("--min-class-area", type=int, default=512, help="pixels that a class covers where it counts")
    parser.add_argument("--encoder", default=ENCODER, help="of the matchers, not dilated")
    parser.add_argument("--encoder-weights", default=PACKAGED)
    options = parser.parse_args()
    data = {shots: episodes(options, shots) for shots in options.shots}
    rows = []
    for name, source in options.networks:
        check_classes(source, data[options.shots[0]])
        model = open_model(source, options.image_size)
        rows.append(measure(name, model, trained_parameters(model), minutes(source), data))
    settings = {"encoder": options.encoder, "encoder_weights": options.encoder_weights}
    matcher = open_model("matching", options.image_size, **settings)
    assert isinstance(matcher.net, MatchingNetwork)
    for method in SCORE_MAPS:
        matcher.net.method, matcher.net.score_map_names = method, (method,)
        rows.append(measure(f"matching by {method}", matcher, 0, None, data))
    print(f"{options.root}, fold {options.fold}, {options.episodes} episodes of seed {options.seed}, ", end="")
    print(f"protocol {options.protocol}, {options.image_size} px, {torch.get_num_threads()} threads\n")
    print("\n".join(markdown([header(options.shots), *(cells(row) for row in rows)])))
    if len({row.features for row in rows}) > 1:
        print("\nNot all on the same features: see the second column.")


def named(text: str) -> tuple[str, str]:
    """``NAME=CHECKPOINT``."""
    name, _, source = text.partition("=")
    if not name or not source:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=CHECKPOINT, such as HSNet=runs/hsnet/…/last.ckpt")
    return name, source


def episodes(options: argparse.Namespace, shots: int) -> EpisodeDataModule:
    """The test's episodes, a function of the seed, the fold and their number alone."""
    data = Pascal5iDataModule(
        options.root,
        image_size=options.image_size,
        min_class_area=options.min_class_area,
        fold=options.fold,
        shots=shots,
        episodes=options.episodes,
        seed=options.seed,
        batch_size=1,
        num_workers=0,
        protocol=Protocol(name=options.protocol),
    )
    data.setup("test")
    return data


def check_classes(source: str, data: EpisodeDataModule) -> None:
    """InputError if a checkpoint was trained on classes that are novel here."""
    trained = TrainedClasses.read(read_tensors(Path(source), source)) if Path(source).is_file() else None
    leaked = trained.among_novel(data) if trained else []
    if trained and leaked:
        raise InputError(f"{source}: {trained.message(leaked)} Give --fold, or another checkpoint.")


def trained_parameters(model: Model) -> int:
    """How many numbers a training changes."""
    return sum(p.numel() for p in rebuild(model.kind, model.settings).parameters() if p.requires_grad)


def minutes(source: str) -> float | None:
    """From the beginning of a checkpoint's run to the checkpoint; None of what lies in no run's folder."""
    config = checkpoint_run(Path(source)) / "config.yaml"
    if not config.is_file():
        return None
    return (Path(source).stat().st_mtime - config.stat().st_mtime) / 60


def measure(name: str, model: Model, parameters: int, took: float | None, data: dict[int, EpisodeDataModule]) -> Row:
    """Score and time a network."""
    seconds: list[float] = []
    with timed_decode(model.net, seconds):
        scores = {shots: score(name, model.net, of_shots, shots) for shots, of_shots in data.items()}
    first = seconds[: len(seconds) // len(data)]  # of the fewest shots
    encoder = getattr(model.net, "encoder", None)
    features = "-"
    if isinstance(encoder, Encoder):
        features = f"{encoder.name} {digest_of(encoder.net.state_dict())[:6]}"
    return Row(name, features, parameters, took, 1000 * median(first), scores)


@contextmanager
def timed_decode(net: FewShotNetwork, seconds: list[float]) -> Iterator[None]:
    """Note how long each decoding takes."""
    decode = net.decode

    def timed(*args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        output = decode(*args, **kwargs)
        if output.logits.is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
        return output

    with patch.object(net, "decode", timed):
        yield


@torch.inference_mode()
def score(name: str, net: FewShotNetwork, data: EpisodeDataModule, shots: int) -> EpisodeScore:
    """By the protocol, as `lightning test` does; each image is encoded once."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net.to(device)
    metric, inference = EpisodeIoU(data.novel_classes), CachedInference(CACHE_MB)
    for batch in progress(data.test_dataloader(), f"{name}, {shots}-shot", unit="episode"):
        logits = inference.segment(net, data.transfer_batch_to_device(batch, device, 0)).logits.cpu()
        full = restore(logits[0, 1] - logits[0, 0], batch.content_size[0], batch.original_size[0])
        metric.update((full > 0).to(torch.uint8), batch.original_mask[0], int(batch.class_id[0]))
    return metric.compute()


def header(shots: Sequence[int]) -> list[str]:
    """The names of the columns."""
    return ["network", "features", "parameters", "minutes", "ms / episode", *(f"{k}-shot mIoU / FB-IoU" for k in shots)]


def cells(row: Row) -> list[str]:
    """A row as text."""
    parameters = f"{row.parameters / 1e6:.2f} M" if row.parameters else "-"
    took = "-" if row.minutes is None else f"{row.minutes:.0f}"
    scores = [f"{100 * score.miou:.1f} / {100 * score.fb_iou:.1f}" for score in row.scores.values()]
    return [row.name, row.features, parameters, took, f"{row.milliseconds:.1f}", *scores]


if __name__ == "__main__":
    with boundary("Run it again to measure."):
        main()
