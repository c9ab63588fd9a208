"""Index masks read by the project's reader and by libraries, and what a whole episode gains by the former.

The reader inflates a plain PNG (8 bits, no row filters) at once and leaves all other files to Pillow. CPU time in one
thread, all ways taking turns.

Usage: python benchmarks/mask_reading.py FOLDER_OF_INDEX_MASKS [--config … of a training, for the episodes]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.io import decode_png, read_file

from datamodules.episodes.image_cache import ImageCache
from datamodules.episodic import EpisodeDataModule
from datamodules.files.masks import read_index_mask
from datamodules.files.png import write_plain_png
from datamodules.files.sources import IndexMasks
from qgnet.cli import parse
from qgnet.common.boundary import boundary
from qgnet.common.errors import InputError

Array = NDArray[Any]
MASKS = 150
EPISODES = 40
ROUNDS = 9


def checked(path: Path) -> Array:
    """As Pillow, which does not look at checksums unless it is asked to."""
    with Image.open(path) as file:
        file.verify()
    return by_pillow(path)


def by_pillow(path: Path) -> Array:
    """Palette indices or greys."""
    with Image.open(path) as file:
        return np.asarray(file)


def by_opencv(path: Path) -> Array:
    """Greys; OpenCV gives a palette's colours."""
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))


def by_torchvision(path: Path) -> Array:
    """Palette indices or greys."""
    return decode_png(read_file(str(path))).numpy()[0]


READERS: dict[str, Callable[[Path], Array]] = {
    "this": read_index_mask,
    "Pillow, checksums looked at": checked,
    "Pillow alone": by_pillow,
    "OpenCV": by_opencv,
    "torchvision": by_torchvision,
}


class ByPillow(IndexMasks):
    """Images whose masks Pillow reads."""

    def labels(self, i: int) -> Array:
        """(H, W) uint8 class numbers."""
        return checked(self.masks[i])


def medians(ways: Mapping[str, Callable[[], None]]) -> dict[str, float]:
    """CPU seconds of each way, the ways taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.process_time()
            way()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}


def compare_readers(paths: list[Path]) -> None:
    """Print milliseconds a mask, the ratio to this reader, and how many masks have the right values."""

    def read_all(read: Callable[[Path], Array]) -> None:
        for path in paths:
            read(path)

    seconds = medians({name: lambda read=read: read_all(read) for name, read in READERS.items()})  # type: ignore[misc]
    expected = [read_index_mask(path) for path in paths]
    for name, read in READERS.items():
        right = sum(np.array_equal(read(path), mask) for path, mask in zip(paths, expected, strict=True))
        each = 1000 * seconds[name] / len(paths)
        ratio = seconds[name] / seconds["this"]
        print(f"  {name:28} {each:6.3f} ms, {ratio:5.2f} of this, the values of {right} of {len(paths)} are the same")


def compare_episodes(args: list[str], folder: Path) -> None:
    """Print what an episode and the index's first look cost, every file decoded anew, masks as they are and plain."""
    _, data = parse(args)
    assert isinstance(data, EpisodeDataModule)
    data.setup("fit")
    episodes = data.data["train"]
    episodes.cache = ImageCache(max_bytes=0)
    source = episodes.source
    assert isinstance(source, IndexMasks)
    for kind, masks in (("as they are", source.masks), ("plain", plain(source.masks, folder))):
        sources = {
            name: way(source.names, source.images, masks, source.classes)
            for name, way in (("this", IndexMasks), ("Pillow", ByPillow))
        }

        def draw(source: IndexMasks) -> None:
            episodes.source = source
            for i in range(EPISODES):
                episodes[i]

        def look(source: IndexMasks) -> None:
            for i in range(min(MASKS, len(source.names))):
                source.facts(i)

        for what, way, count in (("episode", draw, EPISODES), ("index, a mask", look, min(MASKS, len(source.names)))):
            found = medians({name: lambda s=s, way=way: way(s) for name, s in sources.items()})  # type: ignore[misc]
            this, pillow = (1000 * found[name] / count for name in sources)
            print(f"  {what}, masks {kind}: {this:.2f} ms, by Pillow {pillow:.2f}: {pillow / this:.2f} times as long")


def plain(paths: Sequence[Path], folder: Path) -> list[Path]:
    """The same masks in VOC's palette, without row filters."""
    for path in paths:
        write_plain_png(folder / path.name, read_index_mask(path))
    return [folder / path.name for path in paths]


def main(masks: Path, args: list[str]) -> None:
    """Print all comparisons."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    paths = sorted(masks.glob("*.png"))[:MASKS]
    if not paths:
        raise InputError(f"{masks} holds no *.png. Give the folder of the masks.")
    with tempfile.TemporaryDirectory() as folder:
        print("Masks as they are:")
        compare_readers(paths)
        print("The same in VOC's palette:")
        compare_readers(plain(paths, Path(folder)))
        if args:
            print("Training, every file decoded anew:")
            compare_episodes(args, Path(folder))


if __name__ == "__main__":
    own = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own.add_argument("masks", type=Path)
    given, more = own.parse_known_args()
    with boundary("Run it again."):
        main(given.masks, more)
