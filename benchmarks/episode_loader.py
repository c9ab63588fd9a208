"""Training episodes per second and worker, against a loader that keeps the released code's way.

Baseline: images and masks become float32 first, then OpenCV scales, rotates, blurs, flips and crops them, the label is
picked apart by ``np.unique`` and ``np.where``, and each sample is normalised in the worker (PFENet's and QGNet's
transforms, written plainly).

Usage: python benchmarks/episode_loader.py --config lightning_configs/pascal5i_small.yaml --data.image_size 257
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.base import one_thread
from datamodules.episodes.dataset import EpisodeDataset
from datamodules.episodes.episode import collate
from datamodules.episodes.image_cache import ImageCache
from datamodules.episodic import EpisodeDataModule
from qgnet.cli import parse
from qgnet.common.boundary import boundary
from qgnet.networks.encoders import IMAGENET

MEAN, STD = IMAGENET
EPISODES = 400
WARM_UP = 40
ROUNDS = 3
AS_RELEASED = ("--data.negative=0", "--data.inverted=0")
"""Every query shows the class that is asked for: the released way knows no other episodes."""


class ReleasedWay(Dataset[tuple[Tensor, ...]]):
    """Episodes as the released code makes them; draws are shared with the data set under test."""

    def __init__(self, data: EpisodeDataset, side: int, scale: tuple[float, float]) -> None:
        self.data = data
        self.side = side
        self.scale = scale
        self.rng = np.random.default_rng(0)

    def __getitem__(self, i: int) -> tuple[Tensor, ...]:
        """Query and supports of episode ``i`` as normalised float tensors with their masks."""
        draw = self.data.draw(i)
        return tuple(t for image in (draw.query, *draw.supports) for t in self.pair(image, draw.class_id))

    def pair(self, number: int, class_id: int) -> tuple[Tensor, Tensor]:
        """One image and its binary mask."""
        source: Any = self.data.source
        image: Any = cv2.imread(str(source.images[number]), cv2.IMREAD_COLOR)
        image = np.float32(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        label = source.labels(number).copy()
        classes = [c for c in np.unique(label).tolist() if c not in (0, 255)]
        assert class_id in classes
        target, ignore = np.where(label == class_id), np.where(label == 255)
        label[:, :] = 0
        label[target[0], target[1]] = 1
        label[ignore[0], ignore[1]] = 255
        image, label = self.crop(*self.blur_and_flip(*self.rotate(*self.resize(image, label))))
        tensor = torch.from_numpy(image.transpose((2, 0, 1)).copy()).float()
        for t, m, s in zip(tensor, MEAN, STD, strict=True):
            t.sub_(255 * m).div_(255 * s)
        return tensor, torch.from_numpy(label).long()

    def resize(self, image: Any, label: Any) -> tuple[Any, Any]:
        """Random scale."""
        f = self.rng.uniform(*self.scale)
        image = cv2.resize(image, None, fx=f, fy=f, interpolation=cv2.INTER_LINEAR)
        return image, cv2.resize(label, None, fx=f, fy=f, interpolation=cv2.INTER_NEAREST)

    def rotate(self, image: Any, label: Any) -> tuple[Any, Any]:
        """Up to 10 degrees, every second time."""
        if self.rng.random() < 0.5:
            height, width = label.shape
            matrix = cv2.getRotationMatrix2D((width / 2, height / 2), self.rng.uniform(-10, 10), 1)
            fill = [255 * m for m in MEAN]
            image = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_CONSTANT, borderValue=fill)
            label = cv2.warpAffine(
                label, matrix, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=255
            )
        return image, label

    def blur_and_flip(self, image: Any, label: Any) -> tuple[Any, Any]:
        """Each every second time."""
        if self.rng.random() < 0.5:
            image = cv2.GaussianBlur(image, (5, 5), 0)
        if self.rng.random() < 0.5:
            image, label = cv2.flip(image, 1), cv2.flip(label, 1)
        return image, label

    def crop(self, image: Any, label: Any) -> tuple[Any, Any]:
        """Pad with the mean, then draw windows until 85 % of the foreground is kept, at most 30."""
        down, right = (max(self.side - n, 0) for n in label.shape)
        borders = (down // 2, down - down // 2, right // 2, right - right // 2)
        image = cv2.copyMakeBorder(image, *borders, cv2.BORDER_CONSTANT, value=[255 * m for m in MEAN])
        label = cv2.copyMakeBorder(label, *borders, cv2.BORDER_CONSTANT, value=255)
        whole = np.sum(label == 1)
        for _ in range(30):
            top = self.rng.integers(label.shape[0] - self.side + 1)
            left = self.rng.integers(label.shape[1] - self.side + 1)
            window = np.s_[top : top + self.side, left : left + self.side]
            if np.sum(label[window] == 1) >= 0.85 * whole:
                break
        return image[window], label[window]


def rate(data: Dataset[Any], collate_fn: Callable[..., Any] | None) -> float:
    """Episodes per second of a DataLoader with one worker and batches of 4, its start left out."""
    loader = DataLoader(
        data,
        batch_size=4,
        sampler=range(WARM_UP + EPISODES),
        num_workers=1,
        collate_fn=collate_fn,
        worker_init_fn=one_thread,
    )
    batches = iter(loader)
    for _ in range(WARM_UP // 4):
        next(batches)
    start = time.perf_counter()
    for _ in batches:
        pass
    return EPISODES / (time.perf_counter() - start)


def main() -> None:
    """Print rates and their ratio, the two ways taking turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="a YAML of few-shot segmentation; all else is as for it")
    options, settings = parser.parse_known_args()
    _, data = parse(["--config", options.config, *settings, *AS_RELEASED])
    assert isinstance(data, EpisodeDataModule)  # no other takes what is AS_RELEASED
    data.setup("fit")
    ours = data.data["train"]
    baseline = ReleasedWay(ours, data.image_size, data.scale)
    released, fresh, kept = [], [], []
    for _ in range(ROUNDS):
        released.append(rate(baseline, None))
        ours.cache = ImageCache(max_bytes=0)
        fresh.append(rate(ours, collate))
        ours.cache = ImageCache()
        for i in range(WARM_UP + EPISODES):  # fills it; the worker is forked from here
            ours[i]
        kept.append(rate(ours, collate))
    slow = max(released)
    print(f"{data.shots}-shot episodes of {data.image_size} px per second and worker, best of {ROUNDS} rounds:")
    print(f"released way                     {slow:.1f}")
    for name, rates in (("this, every file decoded anew", fresh), ("this, decoded images at hand", kept)):
        print(f"{name:32} {max(rates):.1f}, {max(rates) / slow:.2f} times as fast")


if __name__ == "__main__":
    with boundary("Run it again to measure."):
        main()
