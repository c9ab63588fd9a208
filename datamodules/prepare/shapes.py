"""Check and draw the shapes of labelling tools: polygons and COCO's run lengths."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from pycocotools.mask import decode, frPyObjects, merge

from datamodules.files.sources import Array

TOO_FEW = "of less than three points"
FIRST, BITS, MORE = ord("0"), 5, 0x20
"""COCO's text of run lengths: its first letter, the bits per letter, and the bit that means that more follow."""
LONGEST = 12
"""Most letters of one number; no run needs more."""


class ShapeError(ValueError):
    """A shape that cannot be drawn. The text gives the reason and follows the word "annotation" or "shape"."""


def polygon_fault(points: Any, height: int, width: int) -> str:
    """The reason why x, y, x, y, … is not a polygon on an image of this size; empty if it is a polygon."""
    if not isinstance(points, list) or len(points) < 5:
        return TOO_FEW
    if len(points) % 2:
        return "of an odd number of coordinates"
    if not all(type(value) in (int, float) for value in points):
        return "with a coordinate that is no number"
    far = max(height, width)  # pycocotools follows every edge, also far outside, and finally overflows
    if not all(-far <= value <= 2 * far for value in points):
        return "with a point far outside the image"
    return ""


def draw_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> Array:
    """The union of valid polygons x, y, x, y, … as a mask, (height, width) bool."""
    inside: Array = decode(merge(frPyObjects(polygons, height, width))).astype(bool)
    return inside


def draw_runs(shape: Mapping[str, Any], height: int, width: int) -> Array:
    """The mask, (height, width) bool, of COCO's run lengths: column by column, starting with background.

    ``counts`` is a list or COCO's text of it; ShapeError if the runs do not fill the image exactly.
    """
    counts = shape.get("counts")
    runs = read_runs(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int for run in runs):
        raise ShapeError("with run lengths that are no whole numbers")
    if any(run < 0 for run in runs):
        raise ShapeError("with a negative run length")
    if shape.get("size") != [height, width]:
        raise ShapeError("with run lengths of another size than the image's")
    if sum(runs) != height * width:
        raise ShapeError("with run lengths that do not fill the image")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape((height, width), order="F")


def read_runs(text: str) -> list[int]:
    """The run lengths in COCO's text; from the fourth on, each is stored as its difference to the last but one."""
    codes = [ord(letter) - FIRST for letter in text]
    if not all(0 <= code < 2 * MORE for code in codes) or (codes and codes[-1] & MORE):
        raise ShapeError("with run lengths in a text that is not COCO's")
    ends = [i + 1 for i, code in enumerate(codes) if not code & MORE]
    runs: list[int] = []
    for start, end in pairwise([0, *ends]):
        if end - start > LONGEST:
            raise ShapeError("with run lengths in a text that is not COCO's")
        number = sum((code & (MORE - 1)) << BITS * k for k, code in enumerate(codes[start:end]))
        if codes[end - 1] & MORE >> 1:  # negative
            number -= 1 << BITS * (end - start)
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
    return runs
