"""What a Segmenter says of an image."""

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
        there: whether the image shows the class at all.

    Returns:
        (H, W): which of the classes, counted from 0; -1 where none is above its threshold.
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
        score: how sure it is that the image shows the class, in [0, 1].
        maps: name → (h, w) float32 in [0, 1], the network's region maps at its positions; of an image in tiles
            those of the first one.
    """

    name: str
    mask: Labels
    probability: Map
    score: float
    maps: dict[str, Map]

    @property
    def empty(self) -> bool:
        """Whether there is none of the class."""
        return not self.mask.any()

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(np.count_nonzero(self.mask))

    @cached_property
    def instances(self) -> Objects:
        """(H, W) int32: 0 where there is no single object, n of the n-th one; found when it is first asked for.

        They are the mask's connected parts without specks, cut where objects touch: `qgnet.outputs.instances.split`.
        """
        return split(self.mask)

    @property
    def count(self) -> int:
        """How many single objects there are."""
        return int(self.instances.max(initial=0))


@dataclass(frozen=True)
class Result:
    """All classes in an image.

    Attributes:
        segments: class name → what there is of it; the masks of two classes share no pixel.
    """

    segments: dict[str, Segment]

    @property
    def best(self) -> Segment:
        """The class that is there most surely."""
        return max(self.segments.values(), key=lambda segment: segment.score)

    @property
    def mask(self) -> Labels:
        """(H, W) uint8: 0 background, n the n-th class; so {0, 1} of a single class."""
        masks = [number * segment.mask for number, segment in enumerate(self.segments.values(), start=1)]
        return np.maximum.reduce(masks)

    @property
    def instances(self) -> Objects:
        """(H, W) int32: 0 where there is no single object, n of the n-th one; those of one class after the other."""
        objects, count = np.zeros(self.mask.shape, np.int32), 0
        for segment in self.segments.values():
            objects += np.where(segment.instances > 0, segment.instances + count, 0).astype(np.int32)
            count += segment.count
        return objects

    @property
    def probability(self) -> Map:
        """(H, W) float32 in [0, 1], of the likeliest class at each pixel."""
        return np.maximum.reduce([segment.probability for segment in self.segments.values()])

    @property
    def score(self) -> float:
        """That of the class that is there most surely, in [0, 1]."""
        return self.best.score

    @property
    def maps(self) -> dict[str, Map]:
        """The network's region maps of the same class: name → (h, w) in [0, 1]."""
        return self.best.maps

    @property
    def guided_map(self) -> Map | None:
        """The map of cross-correspondence, (h, w): similarity to the supports' object; None of a network without it."""
        return self.maps.get("guided")

    @property
    def prior_map(self) -> Map | None:
        """The map of self-correspondence, (h, w); None of a network without it."""
        return self.maps.get("prior")

    @property
    def empty(self) -> bool:
        """Whether none of the classes is there."""
        return all(segment.empty for segment in self.segments.values())
