"""Single objects of a mask: its connected parts, cut where objects touch."""

import cv2
import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint8]
Objects = NDArray[np.int32]
"""(H, W): 0 where there is no object, n of the n-th one."""
SMALLEST = 0.05
"""Of the largest object's area: what is less is a speck and no object, and is not cut off from another. A compromise of
0.001 … 0.2 in ``benchmarks/instances.py``: with less, specks of predictions count; with more, far objects do not."""
NECK = 0.7
"""Objects touch where the mask is narrower than this part of the narrower one's width. 0.6 leaves more coins together
in ``benchmarks/instances.py``, and 0.8 cuts bars with uneven edges."""
EDGE = 1.0
"""Pixels that an edge may be off. They are added to all widths, so that thin lines are not cut at their steps."""
SOLID = 0.85
"""Pieces are objects if they fill so much of their convex hulls, and more than they do together: coins, cells and fruit
are cut apart, people and rings are not. In ``benchmarks/instances.py`` 0.8 cuts more of others, 0.95 fewer coins."""
LONGEST = 512
"""Pixels of a part's longer side, to which larger ones are brought to find their pieces, for a part that fills an image
would take seconds. Fifty objects side by side that all touch are still told apart."""


def split(mask: Labels) -> Objects:
    """The single objects of (H, W) in {0, 1}, numbered from the top; each is connected, corners included."""
    from scipy import ndimage  # noqa: PLC0415 (quick to start without)
    from skimage.measure import label  # noqa: PLC0415

    parts = label(mask, connectivity=2)
    objects, count = np.zeros(mask.shape, np.int32), 0
    least = SMALLEST * max(np.bincount(parts.ravel())[1:], default=0)
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        part = parts[box] == number
        if np.count_nonzero(part) >= least:
            pieces = split_part(part)
            objects[box] += np.where(part, pieces + count, 0).astype(np.int32)
            count += int(pieces.max())
    return without_specks(objects)


def without_specks(objects: Objects) -> Objects:
    """The objects that are large enough, renumbered."""
    areas = np.bincount(objects.ravel())
    areas[0] = 0
    kept = (areas > 0) & (areas >= SMALLEST * areas.max())
    return (np.cumsum(kept) * kept)[objects].astype(np.int32)


def split_part(part: NDArray[np.bool_]) -> Objects:
    """The pieces of one connected part, (h, w): a single piece unless it clearly is several touching objects."""
    from skimage.segmentation import expand_labels  # noqa: PLC0415

    padded = np.pad(part, 1).astype(np.uint8)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5).astype(np.float32)
    scale = min(1.0, LONGEST / max(depth.shape))
    if scale == 1:
        return split_at_necks(depth)[1:-1, 1:-1]
    size = tuple(max(1, round(side * scale)) for side in depth.shape[::-1])
    pieces = split_at_necks(cv2.resize(depth * scale, size, interpolation=cv2.INTER_AREA).astype(np.float32))
    everywhere = expand_labels(pieces, max(pieces.shape)).astype(np.float32)
    back = cv2.resize(everywhere, depth.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return back.astype(np.int32)[1:-1, 1:-1]


def split_at_necks(depth: NDArray[np.float32]) -> Objects:
    """The pieces of a part, given the distance of each pixel to the background, (h, w); 0 outside."""
    from skimage.measure import label  # noqa: PLC0415
    from skimage.morphology import local_maxima, reconstruction  # noqa: PLC0415
    from skimage.segmentation import watershed  # noqa: PLC0415

    inside = depth > 0
    width = np.log(depth + EDGE)
    levelled = reconstruction(width + np.log(NECK), width)  # no dip is left that is no neck
    markers = label(local_maxima(levelled.round(4), connectivity=2) & inside, connectivity=2)
    if markers.max() > 1:
        areas = np.bincount(watershed(-depth, markers, mask=inside, connectivity=2).ravel())
        areas[0] = 0
        markers = label(markers * (areas >= SMALLEST * areas.max())[markers], connectivity=2)
    whole = inside.astype(np.int32)
    if markers.max() < 2:
        return whole
    pieces = watershed(-depth, markers, mask=inside, connectivity=2)
    filled = solidity(pieces)
    return pieces if filled >= SOLID and filled > solidity(whole) else whole


def solidity(pieces: Objects) -> float:
    """Share of their convex hulls that the pieces fill, weighted by area."""
    from skimage.measure import regionprops  # noqa: PLC0415

    regions = regionprops(pieces)
    return float(sum(one.area * one.solidity for one in regions) / sum(one.area for one in regions))
