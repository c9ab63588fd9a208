"""Masks as polygons whose pixels, by their centres, are those of the mask."""

import cv2
import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.float64]
"""(N, 2) x and y in pixels; the upper left corner of the image is (0, 0), a pixel's centre at a half."""


def polygons(mask: NDArray[np.uint8]) -> list[Polygon]:
    """One polygon for each connected part of (H, W) in {0, 1}; holes are joined to the outline by a cut.

    Outlines are drawn on a mask of twice the size, which leaves a quarter of a pixel between them and pixels' centres.
    """
    fine = mask.repeat(2, axis=0).repeat(2, axis=1)
    contours, tree = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    points = [(contour[:, 0] + 0.5) / 2 for contour in contours]
    outer = {i: points[i] for i in range(len(points)) if tree[0][i][3] < 0}
    for i, hole in enumerate(points):
        parent = int(tree[0][i][3])
        if parent >= 0:
            outer[parent] = _with_hole(outer[parent], hole)
    return list(outer.values())


def _with_hole(outline: Polygon, hole: Polygon) -> Polygon:
    """The outline that runs along the shortest way between corners to the hole, around it and back."""
    distances = ((outline[:, None] - hole[None]) ** 2).sum(axis=2)
    i, j = np.unravel_index(int(distances.argmin()), distances.shape)
    around = np.concatenate([hole[j:], hole[: j + 1]])
    return np.concatenate([outline[: i + 1], around, outline[i:]])
