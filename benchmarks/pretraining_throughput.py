"""Images per second of stage 1 with three kinds of patches: regions kept in a file, random crops, SLIC in the loader.

``regions kept`` is this project's way. ``random crops`` has patches of the same size at random places and no regions at
all, so the ratio says what regions cost. ``SLIC in the loader`` computes scikit-image's SLIC of the photograph at its
full size each time it is loaded. Each is timed as the loader alone and as whole training steps (loader, both encoders,
loss, backward, optimiser; with the share of the time that they wait for data), in turns, and the best turn counts.

Usage: python benchmarks/pretraining_throughput.py --config lightning_configs/pretrain_voc_small.yaml
On a GPU: python benchmarks/pretraining_throughput.py --precision bf16-mixed --batches 40
    --config lightning_configs/pretrain_imagenet.yaml --data.root FOLDER
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from skimage.segmentation import slic

from datamodules.files.sources import Array
from datamodules.unlabeled import ViewDataModule
from datamodules.views.region_maps import RegionMaps
from qgnet.cli import parse
from qgnet.common.boundary import boundary
from qgnet.common.errors import InputError
from qgnet.tasks.pretraining import GlobalLocalPretraining

TURNS = 3


class FullSizeSlic(RegionMaps):
    """SLIC of the whole photograph, computed at each call."""

    def of(self, image: Array, name: str, identity: str) -> Array:
        """(H, W, 3) uint8 → (H, W) region numbers."""
        return slic(image, n_segments=self.count, compactness=10, start_label=0, channel_axis=-1)


class Clock(pl.Callback):
    """When each batch of a training began and ended."""

    def __init__(self) -> None:
        self.starts: list[float] = []
        self.ends: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        """The batch is there."""
        self.starts.append(time.perf_counter())

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """The step is done, on a GPU too."""
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


class Rate(NamedTuple):
    """Images per second, and the share of the time in [0, 1] that went into waiting for them."""

    images: float
    waiting: float


def loader_rate(task: GlobalLocalPretraining, data: ViewDataModule, batches: int, precision: str) -> Rate:
    """The loader alone, its start not counted."""
    loaded = iter(data.train_dataloader())
    next(loaded)
    start, images = time.perf_counter(), 0
    for batch in itertools.islice(loaded, batches):
        images += len(batch.name)
    return Rate(images / (time.perf_counter() - start), 1.0)


def step_rate(task: GlobalLocalPretraining, data: ViewDataModule, batches: int, precision: str) -> Rate:
    """A training, its first step not counted."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            default_root_dir=folder,
            max_steps=batches + 1,
            precision=precision,  # type: ignore[arg-type]
            callbacks=[clock],
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(task, datamodule=data)
    total = clock.ends[-1] - clock.ends[0]
    waited = sum(start - end for start, end in zip(clock.starts[1:], clock.ends[:-1], strict=True))
    return Rate(data.batch_size * batches / total, waited / total)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", default="32-true", help="of the steps, as the Trainer's")
    parser.add_argument("--batches", type=int, default=8, help="to time in each turn; of an epoch that has as many")
    options, settings = parser.parse_known_args()
    task, data = parse(settings)
    if not isinstance(task, GlobalLocalPretraining) or not isinstance(data, ViewDataModule):
        raise InputError("This configuration is not of stage 1. Give one that is with --config.")
    data.num_workers = max(1, data.num_workers)
    with tempfile.TemporaryDirectory() as folder:
        data.region_cache = folder
        start = time.perf_counter()
        data.prepare_data()
        print(f"{len(data.all_images.names)} region maps in {time.perf_counter() - start:.1f} s")
        data.setup("fit")
        kinds = {
            "regions kept": RegionMaps("slic", data.region_count, Path(folder)),
            "random crops": RegionMaps("random", data.region_count, None),
            "SLIC in the loader": FullSizeSlic("slic", data.region_count, None),
        }
        for title, measure in (("loader alone", loader_rate), ("whole steps", step_rate)):
            best = dict.fromkeys(kinds, Rate(0.0, 1.0))
            for _ in range(TURNS):
                for name, regions in kinds.items():
                    data.data["train"].regions = regions
                    best[name] = max(best[name], measure(task, data, options.batches, options.precision))
            for name, rate in best.items():
                waiting = f", waiting {100 * rate.waiting:.0f} % of the time" if measure is step_rate else ""
                ratio = best["regions kept"].images / rate.images
                print(f"{title}: {rate.images:7.1f} images per second, {name}, {ratio:.2f} x{waiting}")


if __name__ == "__main__":
    with boundary("Run it again to measure."):
        main()
