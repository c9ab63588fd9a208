"""Masks: one object (binary masks) or class numbers (index masks), or an error that names the values found."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.files.pixels import Array, Samples, decode_samples, read_bytes, read_samples
from datamodules.files.png import decode_plain_png
from qgnet.common.errors import InputError

FEW = 8
"""A mask of at most so many values means each of them; one of more has soft edges, or is no mask."""
SOFT = 0.1
"""Largest share of pixels between background and object where edges are soft."""
FULL = 0.875
"""From this share of the strongest value on, a pixel of a soft mask is surely object; below 1 − it, background."""
HUE = 0.125
"""Largest difference between two pixels of one colour, as a share of the strongest value."""
THIN = np.ones((3, 3), np.uint8)
"""What is not wider than two pixels everywhere is an edge."""
HALF = 128
NAMED = 6
"""So many values are named in a message."""


def read_mask(path: Path, halve: bool = False) -> NDArray[np.bool_]:
    """The object of a binary mask, (H, W); InputError that names the values if they mean anything else.

    - Two values or colours, one of them 0 or black: the other is the object. One alone: the object, unless it is 0.
    - A palette: black and transparent are background, or index 0 where no colour is black.
    - An alpha channel: the object where it alone varies; else what is transparent is background.
    - Soft edges (few pixels between background and object, JPEG's included): the brighter half; ``halve`` takes it of
      any other values, too, as HSNet does.
    """
    return object_of(path, read_samples(path), halve)


def decode_mask(path: Path, data: bytes) -> NDArray[np.bool_]:
    """The object of a binary mask whose file's bytes are ``data``; ``path`` is what an InputError calls it."""
    return object_of(path, decode_samples(path, data), halve=False)


def object_of(path: Path, found: Samples, halve: bool) -> NDArray[np.bool_]:
    """The object (H, W), as :func:`read_mask` says."""
    if found.palette is not None:
        return object_of_palette(found.values, found.palette)
    values = over_black(found)
    if values.ndim == 3:
        return object_of_colours(path, values, found.lossy, halve)
    return object_of_greys(path, values, found.lossy, halve)


def read_index_mask(path: Path) -> NDArray[np.uint8]:
    """An index mask's class numbers, (H, W), 0 background, 255 ignore, maybe read-only.

    Palette indices or greys of any bit depth, also where a tool has saved grey as RGB(A).
    """
    return decode_index_mask(path, read_bytes(path))


def decode_index_mask(path: Path, data: bytes) -> NDArray[np.uint8]:
    """As :func:`read_index_mask`, of a file whose bytes are ``data``; ``path`` is what an InputError calls it."""
    plain = decode_plain_png(data)
    if plain is not None:
        return plain
    found = decode_samples(path, data)
    values = without_alpha(found)
    if values.ndim == 3:
        if not is_grey(values):
            raise InputError(
                f"The mask {path} is in colour ({some_values(values)}); expected class numbers (palette or grey). "
                "For VOC use SegmentationClassAug/ in its index form, not the coloured one; `qgnet prepare folder "
                "--from cvat` reads colours by a labelmap.txt."
            )
        values = values[..., 0]
    if values.dtype == np.uint8:
        return values // found.step if found.step > 1 else values
    numbers = np.nan_to_num(values, nan=-1)
    if numbers.min(initial=0) < 0 or numbers.max(initial=0) > 255 or (numbers % 1).any():
        raise InputError(
            f"The mask {path} holds {some_values(values)}; expected class numbers, whole and from 0 to 255 (0 "
            "background, 255 ignore). Renumber the classes."
        )
    return numbers.astype(np.uint8)


def without_alpha(found: Samples) -> Array:
    """(H, W) greys or indices, or (H, W, 3) colours."""
    values = found.values[..., :-1] if found.alpha else found.values
    return values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values


def is_grey(colours: Array) -> bool:
    """Whether the three channels (H, W, 3) are the same."""
    first, *others = (colours[..., channel] for channel in range(3))
    return all(np.array_equal(first, other) for other in others)


def object_of_palette(indices: Array, palette: Array) -> NDArray[np.bool_]:
    """The object (H, W) of palette indices (H, W) with RGBA colours (256, 4)."""
    used = np.bincount(indices.ravel(), minlength=256) > 0
    background = (palette[:, :3] == 0).all(axis=1) | (palette[:, 3] == 0)
    if not (used & background).any() or not (used & ~background).any():
        background = np.arange(256) == 0
    return ~background[indices]


def over_black(found: Samples) -> Array:
    """Greys (H, W) or colours (H, W, 3) with 0 for background and transparent parts; or alpha itself."""
    values = without_alpha(found)
    if found.alpha:
        alpha = found.values[..., -1]
        if alpha.min() < alpha.max():
            visible = alpha > 0
            shown = values * (visible if values.ndim == 2 else visible[..., None])
            constant = (values == values[:1, :1]).all()
            values = alpha if constant or not shown.any() else shown
    return values[..., 0] if values.ndim == 3 and is_grey(values) else values


def object_of_colours(path: Path, colours: Array, lossy: bool, halve: bool) -> NDArray[np.bool_]:
    """The object (H, W) of colours (H, W, 3): one colour on black."""
    strength = colours.max(axis=2)
    coloured = colours[strength > 0]
    if (coloured == coloured[0]).all():
        return strength > 0
    if halve:
        return cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY) >= HALF
    core = colours[strength >= FULL * strength.max()].astype(np.int64)
    other = (np.abs(core - np.median(core, axis=0)) > HUE * strength.max()).any(axis=1)
    if other.mean() > (SOFT if lossy else 0):
        raise several_values(path, colours)
    return object_of_greys(path, strength, lossy, halve)


def object_of_greys(path: Path, values: Array, lossy: bool, halve: bool) -> NDArray[np.bool_]:
    """The object (H, W) of grey values (H, W), or of how strong one colour is."""
    strongest = values.max()
    if strongest > 0 and np.count_nonzero(values) == np.count_nonzero(values == strongest):
        return values != 0
    found = np.flatnonzero(np.bincount(values.ravel())) if values.dtype == np.uint8 else np.unique(values)
    lowest, top = found[0], found[-1]
    if len(found) == 1:
        return values != 0
    if halve:
        return values >= HALF
    if len(found) <= FEW and not lossy:
        between = ((values != lowest) & (values != top)).astype(np.uint8)
        soft = lowest == 0 and not cv2.erode(between, THIN).any()
    else:
        between = (values > (1 - FULL) * top) & (values < FULL * top)
        soft = lowest <= (1 - FULL) * top and between.mean() < SOFT
    if not soft:
        raise several_values(path, values)
    return values >= top / 2


def several_values(path: Path, values: Array) -> InputError:
    """The error of a binary mask whose object is not clear."""
    return InputError(
        f"The mask {path} holds {some_values(values)}; expected one object: two values of which 0 is the background, "
        "one colour on black, or an alpha channel. Save the object alone in white on black; masks of class numbers go "
        "to masks/<name>.png, with a classes.yaml."
    )


def some_values(values: Array) -> str:
    """The commonest values (H, W) or colours (H, W, 3) with their shares, for a message."""
    flat = values.reshape(-1, values.shape[2]) if values.ndim == 3 else values.ravel()
    found, counts = np.unique(flat, axis=0, return_counts=True)
    most = sorted(np.argsort(-counts, kind="stable")[:NAMED].tolist())
    named = [f"{to_text(found[i])} ({counts[i] / len(flat):.1%})" for i in most]
    return ", ".join(named) + (f" … {len(found)} values in all" if len(found) > len(named) else "")


def to_text(value: Array) -> str:
    """One value, or the channels of one colour."""
    return f"{value:g}" if value.ndim == 0 else f"({', '.join(f'{channel:g}' for channel in value)})"
