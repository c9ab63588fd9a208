"""The mask index against the released code's way of finding out which image shows which class.

Baseline: every mask decoded by Pillow, ``np.unique``, then for each class a new mask filled through ``np.where`` and
summed, one mask after the other, as ``make_dataset`` of PFENet and QGNet does at each start.

Usage: python benchmarks/mask_index.py FOLDER_OF_INDEX_MASKS
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.files.index import MaskIndex
from datamodules.files.sources import IndexMasks
from qgnet.common.boundary import boundary
from qgnet.common.errors import InputError

MIN_AREA = 2048


def released_way(paths: list[Path]) -> dict[str, list[int]]:
    """Image → classes of at least 2,048 px."""
    found: dict[str, list[int]] = {}
    for path in paths:
        with Image.open(path) as file:
            label = np.asarray(file)
        classes = [c for c in np.unique(label).tolist() if c not in (0, 255)]
        found[path.stem] = []
        for c in classes:
            one = np.zeros_like(label)
            pixels = np.where(label == c)
            one[pixels[0], pixels[1]] = 1
            if one.sum() >= MIN_AREA:
                found[path.stem].append(c)
    return found


def main() -> None:
    """Print seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of index masks, *.png")
    options = parser.parse_args()
    paths = sorted(options.folder.glob("*.png"))
    if not paths:
        raise InputError(f"{options.folder} has no *.png. Give a folder of index masks, as of VOC's SegmentationClass.")
    for path in paths:  # into the page cache, for both
        path.read_bytes()
    start = time.perf_counter()
    slow = released_way(paths)
    baseline = time.perf_counter() - start
    source = IndexMasks([path.stem for path in paths], paths, paths, range(1, 255))
    with tempfile.TemporaryDirectory() as cache:
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            index = MaskIndex.cached(source, Path(cache) / "index.npz")
            seconds.append(time.perf_counter() - start)
    fast = {
        path.stem: sorted(c for c, n in f.areas.items() if n >= MIN_AREA)
        for path, f in zip(paths, index.facts, strict=True)
    }
    assert fast == slow, "the two ways disagree"
    print(f"{len(paths)} masks, released way: {baseline:.2f} s")
    print(f"index, first start: {seconds[0]:.2f} s, {baseline / seconds[0]:.1f} times as fast")
    print(f"index, second start: {seconds[1]:.3f} s, {baseline / seconds[1]:.0f} times as fast")


if __name__ == "__main__":
    with boundary("Run it again to measure."):
        main()
