"""Pictures and masks as users hand them over: files, PIL images or arrays."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from datamodules.errors import InputError
from datamodules.sources import IGNORE, Array

Given = str | Path | Image.Image | NDArray[Any]
"""A file; a PIL image; or an array, see `picture` and `class_numbers`."""


def picture(given: Given) -> Array:
    """(H, W, 3) uint8 RGB in its displayed orientation.

    Args:
        given: file, PIL image, or a uint8 array (H, W, 3) RGB or (H, W) grey.

    Raises:
        InputError: if it cannot be read, or is an array of another kind.
    """
    if isinstance(given, np.ndarray):
        if given.dtype != np.uint8 or given.ndim not in (2, 3) or given.shape[2:] not in ((), (3,)) or not given.size:
            raise InputError(
                f"A picture is an array {given.shape} of {given.dtype}; expected (H, W, 3) or (H, W) uint8."
            )
        return given if given.ndim == 3 else np.repeat(given[:, :, None], 3, axis=2)
    return np.asarray(upright(given).convert("RGB"))


def class_numbers(given: Given, numbers: Collection[int]) -> Array:
    """A mask as (H, W) uint8: 0 background, 255 ignored, and class numbers.

    Args:
        given: file, PIL image, or an array (H, W) of bool or of whole numbers.
        numbers: the classes that there may be. If that is 1 alone, black and white masks are taken, too: what is not
            0 is the object where the mask has but one value beside 0.

    Raises:
        InputError: if it cannot be read, is coloured, or holds other numbers.
    """
    if isinstance(given, np.ndarray):
        values = given
    else:
        mask = upright(given)
        values = np.asarray(mask if mask.mode in ("P", "L", "1", "I;16", "I") else mask.convert("L"))
    if values.ndim != 2 or not (values.dtype == bool or np.issubdtype(values.dtype, np.integer)):
        raise InputError(
            f"A mask is an array {values.shape} of {values.dtype}; expected (H, W) of bool or whole numbers."
        )
    found = set(np.unique(values).tolist()) - {0}
    if set(numbers) == {1} and len(found) == 1:
        return (values != 0).astype(np.uint8)
    unknown = sorted(found - {*numbers, IGNORE})
    if unknown:
        raise InputError(
            f"A mask holds the value {unknown[0]}; expected 0 (background), {IGNORE} (ignored) or "
            f"{', '.join(map(str, numbers))}."
        )
    return values.astype(np.uint8)


def upright(given: str | Path | Image.Image) -> Image.Image:
    """A PIL image turned as its EXIF orientation says; InputError if the file cannot be read."""
    if isinstance(given, Image.Image):
        return ImageOps.exif_transpose(given)
    try:
        with Image.open(given) as file:
            return ImageOps.exif_transpose(file)
    except FileNotFoundError:
        raise InputError(f"{given} does not exist.") from None
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{given} cannot be read as a picture ({error}). Restore it, or leave it out.") from None


def name_of(given: Given, number: int) -> str:
    """A file's name, or a number for what has none."""
    return str(given) if isinstance(given, str | Path) else f"support {number}"
