"""The result of a Segmenter for an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from qgnet.outputs.instances import Objects, split

Map = NDArray[np.float32]
Labels = NDArray[np.uint8]
MOST_CLASSES = 254
"""An index mask has 8 bits; 0 is background, and 255 means in all masks that a pixel is not known."""


def furthest_above(
    probabilities: Sequence[Map], thresholds: Sequence[float], there: Sequence[bool]
) -> NDArray[np.int16]:
    """Each pixel's class: the one furthest above its threshold.

    Args:
        probabilities: (H, W) of each class.
        thresholds: of each class.
        there: whether the image shows each class.

    Returns:
        (H, W): index of the class, from 0; -1 where no class is above its threshold.
    """
    winner = np.full(probabilities[0].shape, -1, np.int16)
    best = np.zeros_like(probabilities[0])
    for number, (probability, threshold) in enumerate(zip(probabilities, thresholds, strict=True)):
        if there[number]:
            excess = probability - np.float32(threshold)
            winner[excess > best] = number
            np.maximum(best, excess, out=best)
    return winner


@dataclass(frozen=True)
class Segment:
    """One class in an image of H x W px.

    Attributes:
        name: of the class.
        mask: (H, W) uint8 in {0, 1}.
        probability: (H, W) float32 in [0, 1].
        score: probability that the image shows the class, in [0, 1]; see *The score* in the guide.
        maps: name → (h, w) float32 in [0, 1], the region maps of the network; with tiles those of the first tile.
    """

    name: str
    mask: Labels
    probability: Map
    score: float
    maps: dict[str, Map]

    @property
    def empty(self) -> bool:
        """Whether the mask has no pixel."""
        return not self.mask.any()

    @property
    def area(self) -> int:
        """Number of pixels of the mask."""
        return int(np.count_nonzero(self.mask))

    @cached_property
    def instances(self) -> Objects:
        """Single objects, (H, W) int32: 0 for none, n for the n-th. Computed at first use.

        They are the connected parts of the mask without specks, cut where objects touch.
        """
        return split(self.mask)

    @property
    def count(self) -> int:
        """Number of single objects."""
        return int(self.instances.max(initial=0))


@dataclass(frozen=True)
class Result:
    """All classes in an image.

    Attributes:
        segments: class name → its segment. The masks of two classes share no pixel.
    """

    segments: dict[str, Segment]

    @property
    def best(self) -> Segment:
        """The class with the highest score."""
        return max(self.segments.values(), key=lambda segment: segment.score)

    @property
    def mask(self) -> Labels:
        """(H, W) uint8: 0 background, n the n-th class; {0, 1} for a single class."""
        masks = [number * segment.mask for number, segment in enumerate(self.segments.values(), start=1)]
        return np.maximum.reduce(masks)

    @property
    def instances(self) -> Objects:
        """Single objects, (H, W) int32: 0 for none, n for the n-th; numbered class by class."""
        objects, count = np.zeros(self.mask.shape, np.int32), 0
        for segment in self.segments.values():
            objects += np.where(segment.instances > 0, segment.instances + count, 0).astype(np.int32)
            count += segment.count
        return objects

    @property
    def probability(self) -> Map:
        """(H, W) float32 in [0, 1], the highest of all classes at each pixel."""
        return np.maximum.reduce([segment.probability for segment in self.segments.values()])

    @property
    def score(self) -> float:
        """The highest score of all classes, in [0, 1]."""
        return self.best.score

    @property
    def maps(self) -> dict[str, Map]:
        """Region maps of the class with the highest score: name → (h, w) in [0, 1]."""
        return self.best.maps

    @property
    def guided_map(self) -> Map | None:
        """Guided map (cross-correspondence), (h, w) in [0, 1]: similarity to the supports' object; None without one."""
        return self.maps.get("guided")

    @property
    def prior_map(self) -> Map | None:
        """Prior map (self-correspondence), (h, w) in [0, 1]; None without one."""
        return self.maps.get("prior")

    @property
    def empty(self) -> bool:
        """Whether all masks are empty."""
        return all(segment.empty for segment in self.segments.values())
