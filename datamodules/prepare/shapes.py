"""Shapes as tools store them, polygons and COCO's run lengths, checked before they are drawn."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from pycocotools.mask import decode, frPyObjects, merge

from datamodules.files.sources import Array

TOO_FEW = "of less than three points"
FIRST, BITS, MORE = ord("0"), 5, 0x20
"""COCO's text of run lengths: from which letter on, how many bits in each, and the bit that says that more follow."""
LONGEST = 12
"""Letters of one number: no run is longer."""


class ShapeError(ValueError):
    """A shape that cannot be drawn; the text says why, and follows the word "annotation" or "shape"."""


def polygon_fault(points: Any, height: int, width: int) -> str:
    """Why x, y, x, y, … is no polygon on an image of this size; nothing if it is one."""
    if not isinstance(points, list) or len(points) < 5:
        return TOO_FEW
    if len(points) % 2:
        return "of an odd number of coordinates"
    if not all(type(value) in (int, float) for value in points):
        return "with a coordinate that is no number"
    far = max(height, width)  # pycocotools walks along every edge, however far outside, and overflows at last
    if not all(-far <= value <= 2 * far for value in points):
        return "with a point far outside the image"
    return ""


def draw_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> Array:
    """(height, width) bool: inside any of the polygons, each x, y, x, y, … without a fault."""
    inside: Array = decode(merge(frPyObjects(polygons, height, width))).astype(bool)
    return inside


def draw_runs(shape: Mapping[str, Any], height: int, width: int) -> Array:
    """(height, width) bool of COCO's run lengths: down the columns, beginning with background.

    ``counts`` is a list or COCO's text of it; ShapeError if they do not fill exactly this image.
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
    """The run lengths in COCO's text; each but the first three is written as its difference to the last but one."""
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
