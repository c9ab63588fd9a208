"""Index masks read by the project's reader, by libraries, and by hand; and what a whole episode gains by the last.

By hand: the bytes of a plain PNG (8 bits, no row filters) inflated at once by libdeflate, as the project did until a
library took its place; of any other file Pillow reads the rest. CPU time in one thread, all ways taking turns.

Usage: python benchmarks/mask_reading.py FOLDER_OF_INDEX_MASKS [--config … of a training, for the episodes]
"""

import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import deflate
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.io import decode_png, read_file

from datamodules.episodes.decoded import Decoded
from datamodules.episodic import EpisodeDataModule
from datamodules.files.masks import read_index_mask
from datamodules.files.png import write_plain_png
from datamodules.files.sources import IndexMasks
from qgnet.cli import parse

Array = NDArray[Any]
MASKS = 150
EPISODES = 40
ROUNDS = 9


def by_hand(path: Path) -> Array:
    """A plain PNG inflated at once; no checksum but the stream's is looked at."""
    data = path.read_bytes()
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    parts, start = [], 8
    while start + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[start : start + 8])
        if kind == b"IDAT":
            parts.append(data[start + 8 : start + 8 + length])
        start += 12 + length
    if (depth, interlaced) == (8, 0) and colour in (0, 3):
        rows = np.frombuffer(deflate.zlib_decompress(b"".join(parts), height * (width + 1)), np.uint8)
        rows = rows.reshape(height, width + 1)
        if not rows[:, 0].any():  # the filter of each row
            return rows[:, 1:]
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
    "Pillow alone": by_pillow,
    "OpenCV": by_opencv,
    "torchvision": by_torchvision,
    "by hand": by_hand,
}


class ByHand(IndexMasks):
    """Images whose masks are read by hand."""

    def labels(self, i: int) -> Array:
        """(H, W) uint8 class numbers."""
        return by_hand(self.masks[i])


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
        print(f"  {name:12} {each:6.3f} ms, {ratio:5.2f} of this, the values of {right} of {len(paths)} are the same")


def compare_episodes(args: list[str], folder: Path) -> None:
    """Print what an episode and the index's first look cost, every file decoded anew, masks as they are and plain."""
    _, data = parse(args)
    assert isinstance(data, EpisodeDataModule)
    data.setup("fit")
    episodes = data.data["train"]
    episodes.decoded = Decoded(room=0)
    source = episodes.source
    assert isinstance(source, IndexMasks)
    for kind, masks in (("as they are", source.masks), ("plain", plain(source.masks, folder))):
        sources = {
            name: way(source.names, source.images, masks, source.classes)
            for name, way in (("this", IndexMasks), ("by hand", ByHand))
        }

        def draw(source: IndexMasks) -> None:
            episodes.source = source
            for i in range(EPISODES):
                episodes[i]

        def look(source: IndexMasks) -> None:
            for i in range(min(MASKS, len(source.names))):
                facts = source.facts(i)
                source.check_image(i, (facts.height, facts.width), whole=False)

        for what, way, count in (("episode", draw, EPISODES), ("index, a mask", look, min(MASKS, len(source.names)))):
            found = medians({name: lambda s=s, way=way: way(s) for name, s in sources.items()})  # type: ignore[misc]
            this, hand = (1000 * found[name] / count for name in sources)
            print(f"  {what}, masks {kind}: {this:.2f} ms, by hand {hand:.2f}: {this / hand:.2f} of it")


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
    with tempfile.TemporaryDirectory() as folder:
        print("Masks as they are:")
        compare_readers(paths)
        print("The same in VOC's palette:")
        compare_readers(plain(paths, Path(folder)))
        if args:
            print("Training, every file decoded anew:")
            compare_episodes(args, Path(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
