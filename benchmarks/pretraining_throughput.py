"""Images per second of stage 1 with three kinds of patches: regions kept in a file, random crops, SLIC in the loader.

``regions kept`` is this project's way. ``random crops`` has patches of the same size at random places and no regions at
all, so the ratio says what regions cost. ``SLIC in the loader`` computes scikit-image's SLIC of the photograph at its
full size each time it is loaded. Each is timed as the loader alone (one worker) and as whole training steps (loader,
both encoders, loss, backward, optimiser), in turns, and the best turn counts.

Usage: python benchmarks/pretraining_throughput.py --config lightning_configs/pretrain_voc_small.yaml
"""

import itertools
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from skimage.segmentation import slic

from datamodules.region_maps import RegionMaps
from datamodules.sources import Array
from datamodules.unlabeled import ViewDataModule
from qgnet.cli import parse
from qgnet.tasks.pretraining import GlobalLocalPretraining

TURNS = 3
BATCHES = 8


class FullSizeSlic(RegionMaps):
    """SLIC of the whole photograph, computed at each call."""

    def of(self, image: Array, name: str, identity: str) -> Array:
        """(H, W, 3) uint8 → (H, W) region numbers."""
        return slic(image, n_segments=self.count, compactness=10, start_label=0, channel_axis=-1)


class Clock(pl.Callback):
    """When each batch of a training ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Look at the clock."""
        self.ends.append(time.perf_counter())


def loader_rate(task: GlobalLocalPretraining, data: ViewDataModule) -> float:
    """Images per second of the loader alone, its start not counted."""
    batches = iter(data.train_dataloader())
    next(batches)
    start, images = time.perf_counter(), 0
    for batch in itertools.islice(batches, BATCHES):
        images += len(batch.name)
    return images / (time.perf_counter() - start)


def step_rate(task: GlobalLocalPretraining, data: ViewDataModule) -> float:
    """Images per second of a training, the first step not counted."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            default_root_dir=folder,
            max_steps=BATCHES + 1,
            callbacks=[clock],
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(task, datamodule=data)
    return data.batch_size * BATCHES / (clock.ends[-1] - clock.ends[0])


def main() -> None:
    """Print the table."""
    task, data = parse(sys.argv[1:])
    assert isinstance(task, GlobalLocalPretraining)
    assert isinstance(data, ViewDataModule)
    data.num_workers = max(1, data.num_workers)
    with tempfile.TemporaryDirectory() as folder:
        data.region_cache = folder
        start = time.perf_counter()
        data.prepare_data()
        print(f"{len(data.images.names)} region maps in {time.perf_counter() - start:.1f} s")
        data.setup("fit")
        kinds = {
            "regions kept": RegionMaps("slic", data.region_count, Path(folder)),
            "random crops": RegionMaps("random", data.region_count, None),
            "SLIC in the loader": FullSizeSlic("slic", data.region_count, None),
        }
        for title, measure in (("loader alone", loader_rate), ("whole steps", step_rate)):
            best = dict.fromkeys(kinds, 0.0)
            for _ in range(TURNS):
                for name, regions in kinds.items():
                    data.data["train"].regions = regions
                    best[name] = max(best[name], measure(task, data))
            for name, rate in best.items():
                print(f"{title}: {rate:7.1f} images per second, {name}, {best['regions kept'] / rate:.2f} x")


if __name__ == "__main__":
    main()
