"""Which class covers how many pixels of which image: the one thing that every filter and draw of an episode asks."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from datamodules.sources import IGNORE, LabelledImages


@dataclass(frozen=True)
class MaskIndex:
    """Class areas of numbered images.

    Attributes:
        areas: per image {class number: pixels}; background and ignored pixels are not in it.
    """

    areas: Sequence[dict[int, int]]

    @classmethod
    def build(cls, source: LabelledImages, title: str = "Reading masks") -> "MaskIndex":
        """Read every mask once, in threads, with a progress bar; errors of the source come through."""

        def count(i: int) -> dict[int, int]:
            source.check(i)
            pixels = np.bincount(source.mask(i).ravel(), minlength=256)
            return {int(c): int(pixels[c]) for c in np.flatnonzero(pixels) if c not in (0, IGNORE)}

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            counts = pool.map(count, range(len(source.names)))
            return cls(list(tqdm(counts, title, len(source.names), unit="mask", leave=False)))

    def images_of(self, class_id: int, min_area: int) -> list[int]:
        """Images of which the class covers at least ``min_area`` pixels."""
        return [i for i, areas in enumerate(self.areas) if areas.get(class_id, 0) >= min_area]
