"""Seconds of a training step, against the same step in float32 without channels_last; the two sides take turns.

A step is the forward pass with frozen encoders, the loss, the backward pass and the optimiser. Episodes are noise: what
they show takes no time.

Usage: python benchmarks/training_speed.py --config lightning_configs/pascal5i.yaml --data.root data/pascal \
    --model.encoder_weights random --model.prior_weights random [--steps 3]
"""

import argparse
import copy
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from datamodules.episodic import EpisodeDataModule
from qgnet.cli import parse
from qgnet.common.boundary import boundary
from qgnet.common.errors import InputError
from qgnet.losses import segmentation_loss
from qgnet.networks.qgnet import QGNet
from qgnet.tasks.base import normalise
from qgnet.tasks.segmentation import FewShotSegmentation


def noise(side: int, batch: int, shots: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query images, support images, support masks, query masks, as a loader gives them."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (batch, 1 + shots, 3, side, side), generator=draw, dtype=torch.uint8)
    masks = torch.zeros(batch, 1 + shots, side, side, dtype=torch.uint8)
    masks[..., side // 4 : side // 2, side // 4 : side // 2] = 1
    return images[:, 0], images[:, 1:], masks[:, 1:], masks[:, 0]


def stepper(net: QGNet, episodes: tuple[Tensor, Tensor, Tensor, Tensor], bf16: bool) -> Callable[[], None]:
    """One step of training this network."""
    query, support, support_masks, query_masks = episodes
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.001, momentum=0.9)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            output = net(normalise(query), normalise(support), support_masks)
            main_loss, auxiliary = segmentation_loss(output, query_masks)
        optimizer.zero_grad()
        (main_loss + auxiliary).backward()
        optimizer.step()

    return step


def main() -> None:
    """Print seconds of a step and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    own, rest = parser.parse_known_args()
    task, data = parse(rest)
    if not isinstance(task, FewShotSegmentation) or not isinstance(data, EpisodeDataModule):
        raise InputError("This configuration is of stage 1. Give one of few-shot segmentation with --config.")
    task.load_starting_weights()
    task.train()
    episodes = noise(data.image_size, data.batch_size, data.shots)
    plain, fast = copy.deepcopy(task.net), task.net.to(memory_format=torch.channels_last)
    sides = {
        "float32, plain layout": stepper(plain, episodes, False),
        "float32, channels_last": stepper(copy.deepcopy(fast), episodes, False),
        "bfloat16, channels_last": stepper(fast, episodes, True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(1 + own.steps):  # the first warms up
        for name, step in sides.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    baseline = median(seconds["float32, plain layout"][1:])
    print(f"{data.image_size} px, batch {data.batch_size}, {data.shots}-shot, {torch.get_num_threads()} thread(s)")
    for name, taken in seconds.items():
        print(f"{name:24} {median(taken[1:]):.2f} s a step, {baseline / median(taken[1:]):.2f} times as fast")


if __name__ == "__main__":
    with boundary("Run it again to measure."):
        main()
