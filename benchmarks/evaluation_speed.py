"""Test episodes per second, against the plain way: one after another, each image encoded anew.

Baseline: float32, one episode at a time, both encoders run on the query and E on each support, the guided map compares
all of the support's positions, all of the FEM's convolutions run on everything concatenated, and the levels'
classifiers run, too. Loading, resizing to the photograph's size and scoring count on both sides.

The test has PASCAL's shape, shrunk: so many queries that each gets 14 episodes, whose supports are drawn from the same
photographs. The two sides take turns, query by query; of the baseline only some episodes are run, and what they
predict is compared pixel by pixel. The head's bias of random weights is set so that about half of the pixels are
foreground: they say one thing everywhere otherwise. ``--as_configured`` takes the configuration's own episodes.

Usage: python benchmarks/evaluation_speed.py --config lightning_configs/pascal5i.yaml --data.root data/pascal \
    --model.encoder_weights random --model.prior_weights random [--precision bf16-mixed] [--queries 8]
python benchmarks/evaluation_speed.py --config lightning_configs/pascal5i_small.yaml --as_configured --ckpt last.ckpt
"""

import argparse
import contextlib
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.episodes.dataset import EpisodeDataset
from datamodules.episodes.episode import Episode, collate
from datamodules.episodes.letterbox import restore
from datamodules.episodes.manifest import NamedDraw
from datamodules.episodic import EpisodeDataModule
from qgnet.cli import parse
from qgnet.common.boundary import boundary
from qgnet.common.errors import InputError
from qgnet.metrics import EpisodeIoU
from qgnet.networks.correspondence import EPS
from qgnet.networks.enrichment import FeatureEnrichment, level_size
from qgnet.networks.few_shot import Prediction, to_logits
from qgnet.networks.layers import resize, resize_mask
from qgnet.networks.qgnet import GUIDED, PRIOR, QGNet
from qgnet.networks.score_maps import compute_score_maps, join_shots, matching_feature, support_positions
from qgnet.tasks.base import normalise
from qgnet.tasks.segmentation import FewShotSegmentation

EPISODES_PER_QUERY = 14
"""5,000 episodes of PASCAL's fold 0 draw on 364 images."""


def plain_region_map(query: Tensor, keys: Tensor) -> Tensor:
    """The cosine of every position of (1, C, h, w) to every key (1, C, N), then the maximum; (1, 1, h, w)."""
    q = query.flatten(2)
    lengths = keys.norm(dim=1)[:, :, None] * q.norm(dim=1)[:, None]
    best = ((keys.transpose(1, 2) @ q) / (lengths + EPS)).amax(dim=1)
    low, high = best.amin(dim=1, keepdim=True), best.amax(dim=1, keepdim=True)
    return ((best - low) / (high - low + EPS)).view(1, 1, *query.shape[2:])


def plain_enrichment(fem: FeatureEnrichment, query: Tensor, category: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """The FEM on concatenated inputs, its levels' classifiers for nothing; logits (1, 2, h, w)."""
    full = (query.shape[-2], query.shape[-1])
    enriched: list[Tensor] = []
    for i, level in enumerate(fem.levels):
        size = level_size(level, full)
        pooled = F.adaptive_avg_pool2d(query, size)
        resized = [resize(region_map, size) for region_map in maps]
        x = fem.mix[i](torch.cat([pooled, category.expand(-1, -1, *size), *resized], dim=1))
        if i > 0:
            x = x + fem.from_finer[i - 1](torch.cat([x, resize(enriched[-1], size)], dim=1))
        x = x + fem.refine[i](x)
        fem.level_classifiers[i](x)
        enriched.append(resize(x, full))
    merged = fem.merge(torch.cat(enriched, dim=1))
    return fem.classifier(merged + fem.refine_merged(merged))


def plain_network(net: QGNet, query: Tensor, support_images: Tensor, support_masks: Tensor) -> Prediction:
    """One episode, everything computed anew; shapes as :meth:`QGNet.forward`, with B = 1."""
    encoder = net.encoder
    features = encoder(query, [*encoder.base_levels, encoder.high_level])
    feature, high = net.reduce_query(encoder.mid(features)), features[encoder.high_level]
    prior_map = {}
    if net.prior_encoder is not None:
        priors = net.reduce_priors(net.prior_encoder.encode_high(query))
        prior_map = {PRIOR: plain_region_map(net.reduce_self(high), priors.flatten(2))}
    categories, guided, found = [], [], []
    for image, mask in zip(support_images[0].split(1), support_masks[0].split(1), strict=True):
        own = encoder(image, [*encoder.base_levels, *([encoder.high_level] if net.score_map_names else [])])
        category, masked = net.masked_features(own, partial(resize_mask, (mask == 1).float()[:, None]))
        guided.append(plain_region_map(high, masked.flatten(2)))
        categories.append(category)
        found.append(support_positions(matching_feature(encoder, own), mask) if net.score_map_names else None)
    guided_map = torch.stack(guided).mean(dim=0)
    maps = [*([guided_map] if net.cross_correspondence else []), *prior_map.values()]
    answers: dict[str, Tensor] = {}
    if net.score_map_names:
        together = join_shots([shot for shot in found if shot is not None])
        answers = compute_score_maps(matching_feature(encoder, features), together, net.score_map_names)
    category = torch.stack(categories).mean(dim=0)
    logits = plain_enrichment(net.enrichment, feature, category, [*maps, *answers.values()])
    if net.score_map_weights is not None:
        weighted = [w * m for w, m in zip(net.score_map_weights, answers.values(), strict=True)]
        logits = logits + to_logits(torch.stack(weighted).sum(dim=0))
    return Prediction(
        resize(logits, (query.shape[-2], query.shape[-1])), {GUIDED: guided_map, **prior_map}, (), answers
    )


def plain_step(task: FewShotSegmentation, episode: Episode) -> tuple[Prediction, Tensor]:
    """The output for a batch of one, and the score map of foreground over background (H, W) at the query's own size."""
    images = normalise(episode.query_image), normalise(episode.support_images)
    output = plain_network(task.net, *images, episode.support_masks)
    score_map = output.logits[0, 1] - output.logits[0, 0]
    return output, restore(score_map, episode.content_size[0], episode.original_size[0])


def pascals_shape(data: EpisodeDataset, queries: int) -> list[NamedDraw]:
    """Episodes 14 times round a few photographs: of as few classes as there are supports for."""
    rng = np.random.default_rng(0)
    per_class = max(data.shots + 1, -(-queries // len(data.images_of)))
    chosen: list[tuple[int, list[int]]] = []
    for class_id, images in data.images_of.items():
        size = min(per_class, queries - sum(len(taken) for _, taken in chosen))
        if size > data.shots:
            chosen.append((class_id, rng.choice(images, size, replace=False).tolist()))
    name = data.source.names
    draws = []
    for _ in range(EPISODES_PER_QUERY):
        for class_id, images in chosen:
            for query in images:
                others = rng.choice([i for i in images if i != query], data.shots, replace=False)
                draws.append(NamedDraw(class_id, name[query], tuple(name[i] for i in others)))
    return draws


def batches_by_query(data: EpisodeDataModule) -> Iterator[list[Episode]]:
    """The test's batches as the loader gives them, those of one query together."""
    group: list[Episode] = []
    for batch in data.test_dataloader():
        if group and batch.query_name[0] != group[-1].query_name[-1]:
            yield group
            group = []
        group.append(batch)
    yield group


def half_foreground(task: FewShotSegmentation, episode: Episode) -> None:
    """Set the head's bias so that the median of the score map is 0."""
    logits = plain_step(task, episode)[0].logits
    bias = task.net.enrichment.classifier[-1].bias
    assert isinstance(bias, Tensor)
    bias[1] -= (logits[:, 1] - logits[:, 0]).median()


class Clock:
    """Seconds since it was started: of the wall, and of this process's CPU, which other work hardly touches."""

    def __init__(self) -> None:
        self.start = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Wall, CPU."""
        return time.perf_counter() - self.start[0], time.process_time() - self.start[1]


class Comparison:
    """Both sides on the same episodes: what they take and what they predict."""

    def __init__(self, task: FewShotSegmentation, data: EpisodeDataset) -> None:
        self.task = task
        self.data = data
        self.number = {named(data, i): i for i in range(len(data))}
        self.seconds: dict[str, list[tuple[float, float]]] = {"plain": [], "this": []}
        self.scores = {side: EpisodeIoU(list(data.images_of)) for side in self.seconds}
        self.differing = self.pixels = self.foreground = 0
        self.widest = self.scale = 0.0

    def plain(self, names: tuple[str, tuple[str, ...]], mask: Tensor) -> None:
        """One episode the plain way, against what it was predicted here."""
        clock = Clock()
        episode = collate([self.data[self.number[names]]])
        _, score_map = plain_step(self.task, episode)
        expected = (score_map > 0).to(torch.uint8)
        self.seconds["plain"].append(clock.read())
        for side, found in (("plain", expected), ("this", mask)):
            self.scores[side].update(found, episode.original_mask[0], int(episode.class_id[0]))
        differs = expected != mask
        self.differing += int(differs.sum())
        self.widest = max([self.widest, *score_map[differs].abs().tolist()])
        self.scale = max(self.scale, float(score_map.abs().median()))
        self.pixels += mask.numel()
        self.foreground += int(expected.sum())

    def report(self) -> None:
        """Print seconds, ratios and how the masks compare."""
        for clock, unit in enumerate(("s", "CPU s")):
            plain = median(seconds[clock] for seconds in self.seconds["plain"])
            this = mean(seconds[clock] for seconds in self.seconds["this"])
            print(f"plain {plain:.2f} {unit} an episode, this {this:.3f}: {plain / this:.1f} times as fast")
        print(f"{self.differing} of {self.pixels} pixels differ; {self.foreground} are foreground")
        print(
            f"Where they differ, the plain score map is at most {self.widest:.1e}; the median score is {self.scale:.1e}"
        )
        miou = {side: 100 * score.compute().miou for side, score in self.scores.items()}
        print(f"mIoU of the compared episodes: plain {miou['plain']:.2f}, this {miou['this']:.2f}")


def main() -> None:
    """Let both sides take turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    parser.add_argument("--queries", type=int, default=8)
    parser.add_argument("--plain_per_query", type=int, default=2, help="Episodes of the baseline.")
    parser.add_argument("--as_configured", action="store_true", help="The configuration's own test episodes.")
    parser.add_argument("--ckpt", type=Path, help="A trained network; random weights otherwise.")
    own, rest = parser.parse_known_args()
    if own.ckpt and not own.ckpt.is_file():
        raise InputError(f"--ckpt {own.ckpt} is no file. Give a checkpoint of a training.")
    task, data = parse(rest)
    if not isinstance(task, FewShotSegmentation) or not isinstance(data, EpisodeDataModule):
        raise InputError("This configuration is of stage 1. Give one of few-shot segmentation with --config.")
    data.setup("test")
    episodes = data.data["val"]
    if not own.as_configured:
        episodes.use_manifest(pascals_shape(episodes, own.queries))
        data.batch_size = EPISODES_PER_QUERY
    if own.ckpt:
        task.load_state_dict(torch.load(own.ckpt, weights_only=True)["state_dict"])
    else:
        task.load_starting_weights()
    task.eval()
    task.net = task.net.to(memory_format=torch.channels_last)
    precision = torch.autocast("cpu", torch.bfloat16) if own.precision == "bf16-mixed" else contextlib.nullcontext()
    comparison = Comparison(task, episodes)
    with torch.inference_mode():
        if not own.ckpt:
            half_foreground(task, collate([episodes[0]]))
        task.on_test_epoch_start()
        clock = Clock()
        for group in batches_by_query(data):
            masks: list[Tensor] = []
            for batch in group:
                with precision:
                    masks += task.predict_step(batch, 0).masks
            wall, cpu = clock.read()
            comparison.seconds["this"].append((wall / len(masks), cpu / len(masks)))
            names = [pair for batch in group for pair in zip(batch.query_name, batch.support_names, strict=True)]
            for k in range(0, len(masks), -(-len(masks) // own.plain_per_query)):
                comparison.plain(names[k], masks[k])
            clock = Clock()
    queries = len({episodes.query_of(i) for i in range(len(episodes))})
    print(f"{len(episodes)} episodes of {queries} queries, {data.shots}-shot, {own.precision}")
    comparison.report()


def named(data: EpisodeDataset, i: int) -> tuple[str, tuple[str, ...]]:
    """Names of an episode's query and supports."""
    draw = data.named(i)
    return draw.query, draw.supports


if __name__ == "__main__":
    with boundary("Run it again to measure."):
        main()
