"""Images and masks from users: files, PIL images, arrays, tensors or lists."""

import io
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from datamodules.files import read_image
from datamodules.files.images import decode_image
from datamodules.files.masks import decode_index_mask, decode_mask
from datamodules.files.pixels import read_bytes, read_error
from datamodules.files.sources import IGNORE, Array
from qgnet.common.errors import InputError
from qgnet.inference.scribbles import WHITE, as_strokes, with_background
from qgnet.inference.snap import grow
from qgnet.outputs.segments import MOST_CLASSES

NAMELESS = Path("the PIL image")
"""Name of a PIL image in messages."""
PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
CONVERTED = {"HSV": "RGB", "La": "LA", "RGBa": "RGBA", "I;16N": "I"}
"""Modes of PIL images that files do not have → modes to convert them to."""
BYTE = 255
ImageLike = str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor | Sequence[Any]
"""A file, a PIL image, an array, a tensor or nested lists; see `as_image` and `as_class_mask`."""


def as_image(source: ImageLike) -> Array:
    """(H, W, 3) uint8 RGB in its displayed orientation; InputError if it is not an image that can be read.

    An array is (H, W, 3) RGB or (H, W) grey, with whole numbers from 0 to 255; a tensor may also be (3, H, W).
    """
    if isinstance(source, str | os.PathLike):
        return read_image(Path(source))
    if isinstance(source, Image.Image):
        return decode_image(NAMELESS, as_file(source))
    values = numbers_of(source, "An image", "a uint8 array (H, W, 3) or (H, W)")
    if isinstance(source, Tensor) and values.ndim == 3 and values.shape[0] == 3 != values.shape[2]:
        values = np.ascontiguousarray(values.transpose(1, 2, 0))
    right = values.ndim in (2, 3) and values.shape[2:] in ((), (3,)) and values.size
    if not right or not np.issubdtype(values.dtype, np.integer):
        raise InputError(
            f"An image is a {values.dtype} array {values.shape}; expected whole numbers from 0 to {BYTE} (uint8), "
            "(H, W, 3) or (H, W)."
        )
    if values.dtype != np.uint8:
        if values.min() < 0 or values.max() > BYTE:
            raise InputError(
                f"An image holds values from {values.min()} to {values.max()}; expected 0 to {BYTE}. Scale them."
            )
        values = values.astype(np.uint8)
    return values if values.ndim == 3 else np.repeat(values[:, :, None], 3, axis=2)


def as_class_mask(source: ImageLike, numbers: Collection[int] | None) -> Array:
    """A mask as (H, W) whole numbers: 0 background, 255 ignored, and these class numbers.

    Without ``numbers``, the mask is of one object, 1. It may be black and white: if it has only one value besides 0,
    that value is the object. InputError if it cannot be read, is coloured, or has other numbers.
    """
    values = mask_of_file(source, numbers is None)
    if values is None:
        values = numbers_of(source, "A mask", "an array (H, W)")
        if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
            values = values.squeeze(0 if values.shape[0] == 1 else 2)
    whole = values.dtype == bool or np.issubdtype(values.dtype, np.integer)
    if not whole and np.issubdtype(values.dtype, np.floating) and (values % 1 == 0).all():  # False for NaN
        values, whole = values.astype(np.int64), True
    if values.ndim != 2 or not whole or not values.size:
        raise InputError(f"A mask is a {values.dtype} array {values.shape}; expected bool or whole numbers, (H, W).")
    found = set(np.unique(values).tolist()) - {0}
    if numbers is None and len(found) == 1:
        return (values != 0).astype(np.uint8)
    known = [1] if numbers is None else numbers
    unknown = sorted(found - {*known, IGNORE})
    if unknown:
        raise InputError(
            f"A mask holds the value {unknown[0]}; expected 0 (background), {IGNORE} (ignored) or "
            f"{', '.join(map(str, known))}."
        )
    return values.astype(np.uint8) if max(found, default=0) <= BYTE else values


def as_scribbles(source: ImageLike, called: str) -> Array:
    """Strokes of a file, a PIL image or an array, as (H, W) uint8 in {0, 1, 255}; see `as_strokes`, also for errors."""
    if is_file(source):
        path, data = contents_of(source)
        try:
            values = decode_index_mask(path, data)
            if set(np.unique(values).tolist()) <= {0, 1, IGNORE} and (values == 1).any():
                return as_strokes(values, called)
        except InputError:  # coloured, or with 16 bits
            pass
    elif (values := numbers_of(source, "A mask", "an array (H, W)")).dtype == bool:
        source = values.astype(np.uint8)
    pixels = as_image(source)
    white, black = pixels.min(axis=2), pixels.max(axis=2)
    return as_strokes(np.where(white >= WHITE, white, black), called)


def mask_of_file(source: ImageLike, single: bool) -> NDArray[Any] | None:
    """The numbers in a mask's file or PIL image; None for other sources.

    With a ``single`` object, a mask of exactly 0, 1 and 255 (ignored) is kept; any other is read as a binary mask.
    """
    if not is_file(source):
        return None
    path, data = contents_of(source)
    try:
        values = decode_index_mask(path, data)
    except InputError:
        if single:  # a binary mask may be coloured
            return decode_mask(path, data)
        raise
    return decode_mask(path, data) if single and set(np.unique(values).tolist()) != {0, 1, IGNORE} else values


def is_file(source: ImageLike) -> TypeGuard[str | os.PathLike[str] | Image.Image]:
    """Whether a source is a file or a PIL image, which is read like a file."""
    return isinstance(source, str | os.PathLike | Image.Image)


def contents_of(source: str | os.PathLike[str] | Image.Image) -> tuple[Path, bytes]:
    """The name of a file or PIL image in messages, and its bytes."""
    if isinstance(source, Image.Image):
        return NAMELESS, as_file(source)
    return Path(source), read_bytes(Path(source))


def numbers_of(source: Any, what: str, expected: str) -> NDArray[Any]:
    """An array, a tensor or nested lists as an array of numbers or bool; InputError for anything else."""
    if isinstance(source, Tensor):
        source = source.detach().cpu()
        source = (source.float() if source.is_floating_point() else source).numpy()
    elif not isinstance(source, list | tuple) and not hasattr(source, "__array__"):
        raise InputError(f"{what} is {kind_of(source)}; expected a file, a PIL image or {expected}.")
    try:
        values = np.asarray(source)
    except ValueError:  # rows of different lengths
        raise InputError(f"{what} is a list whose parts differ in length; expected {expected}.") from None
    if values.dtype.kind not in "buif":
        raise InputError(f"{what} holds {values.dtype} values; expected a file, a PIL image or {expected}.")
    return values


def kind_of(source: Any) -> str:
    """The name of an unexpected value in messages."""
    return "None" if source is None else f"of the type {type(source).__name__}"


def as_file(image: Image.Image) -> bytes:
    """A PIL image as the bytes of a lossless, upright file, so that it is read by the same rules as any file.

    Raises:
        InputError: if the image has no pixels, is closed, or its file is broken.
    """
    stream = io.BytesIO()
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in CONVERTED:
            upright = upright.convert(CONVERTED[upright.mode])
        if upright.mode in PNG_MODES:
            upright.save(stream, "PNG", compress_level=0)
        else:
            upright.save(stream, "TIFF")
    except Exception as error:  # Pillow raises any kind for a broken file that was opened but not read yet
        raise read_error(NAMELESS, error) from None
    return stream.getvalue()


def name_of(source: ImageLike, otherwise: str) -> str:
    """The name of a file; ``otherwise`` for sources without a name."""
    return str(source) if isinstance(source, str | os.PathLike) else otherwise


def is_single(source: Any) -> bool:
    """Whether a value is a single image, even if it is iterable."""
    return isinstance(source, str | bytes | os.PathLike | Image.Image | np.ndarray | Tensor)


def checked_images(images: Any) -> Iterable[ImageLike]:
    """The images; InputError for a single image, or for anything that is not iterable."""
    if is_single(images) or not isinstance(images, Iterable):
        raise InputError(f"The images are {kind_of(images)}; expected several of them, such as a list.")
    return images


NO_BACKGROUND = {
    False: "marks everything: there is no background. Mark the object alone.",
    True: f"has no background: what is not the object is {IGNORE} (not known). Mark some background with 0.",
}
"""Message about a mask without background, by whether the rest of it is unknown (255)."""
OBJECT = "object"
"""Name of the class if the user gives none."""


SupportPairs = Iterable[tuple[ImageLike, ImageLike]]


def read_supports(
    supports: SupportPairs | Mapping[str, SupportPairs], names: Mapping[int, str] | None, scribbles: bool = False
) -> dict[str, list[tuple[Array, Array]]]:
    """Class name → images and masks in {0, 1, 255}; arguments and errors as in :meth:`Segmenter.fit`.

    With ``scribbles``, masks are rough strokes that are grown to the object's edge: white object and black background
    on grey, white object on black, or 1, 0 and 255 not painted (with ``names``, class numbers). Without background
    strokes, the border of the image far from the object is background.
    """
    classes = None if names is None else checked_names(names)
    if classes and isinstance(supports, Mapping):
        raise InputError(
            "The supports have names of classes, and `names` gives others. Give pairs of images and masks of class "
            "numbers with `names`, or class name → pairs without."
        )
    by_class: dict[str, list[tuple[Array, Array]]] = {}
    groups = supports if isinstance(supports, Mapping) else {OBJECT: supports}
    if len(names or groups) > MOST_CLASSES:
        raise InputError(
            f"There are {len(names or groups)} classes; a mask takes at most {MOST_CLASSES}, beside 0 (background) and "
            f"{IGNORE} (not known). Segment some of them first, then the others."
        )
    for name, pairs in groups.items():
        checked_name(name)
        for number, (image, mask) in enumerate(checked_pairs(pairs), start=1):
            pixels, called = as_image(image), f"The mask of {name_of(image, f'support {number}')}"
            labels = as_scribbles(mask, called) if scribbles and not classes else as_class_mask(mask, classes)
            if labels.shape != pixels.shape[:2]:
                raise InputError(
                    f"{called} is {labels.shape[1]}x{labels.shape[0]} px, the image {pixels.shape[1]}x"
                    f"{pixels.shape[0]} px. Both must be of one size."
                )
            if not ((labels != 0) & (labels != IGNORE)).any():
                ask = f"any of {', '.join(map(str, classes))}; {IGNORE} means ignored" if classes else "1 (or white)"
                raise InputError(f"{called} is empty: no pixel is marked. Mark the object with {ask}.")
            for key, label in classes.items() if classes else [(1, name)]:
                if (labels == key).any():
                    binary = np.where(labels == IGNORE, IGNORE, labels == key).astype(np.uint8)
                    if scribbles:
                        binary = grow(pixels, with_background(binary, called))
                    if not (binary == 0).any():
                        raise InputError(f"{called} {NO_BACKGROUND[(binary == IGNORE).any()]}")
                    by_class.setdefault(label, []).append((pixels, binary))
    expected = list(classes.values() if classes else groups)
    missing = [name for name in expected if name not in by_class]
    if missing or not by_class:
        raise InputError(
            f"There is no support of {missing[0]!r}. Give at least one image with a mask of it."
            if missing
            else "There is no support. Give at least one image with the mask of what is to be found."
        )
    return {name: by_class[name] for name in expected}


def checked_pairs(pairs: Any) -> list[tuple[ImageLike, ImageLike]]:
    """Pairs of images and masks as a list; InputError for anything else."""
    expected = "expected pairs, [(image, mask), …]"
    if is_single(pairs) or not isinstance(pairs, Iterable):
        raise InputError(f"The supports are {kind_of(pairs)}; {expected}.")
    found = list(pairs)
    for number, pair in enumerate(found, start=1):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            size = f" of {len(pair)}" if isinstance(pair, list | tuple) else ""
            raise InputError(f"Support {number} is {kind_of(pair)}{size}; {expected}.")
    return found


def checked_names(names: Any) -> dict[int, str]:
    """Class number → name; InputError without classes, for reserved numbers, and for invalid or repeated names."""
    if not isinstance(names, Mapping) or not names:
        raise InputError(f"`names` is {names!r}; expected class number → name, such as {{1: 'cat', 2: 'dog'}}.")
    for number, name in names.items():
        whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
        if not whole or number < 1 or number == IGNORE:
            raise InputError(
                f"`names` has the class number {number!r} ({name!r}); expected whole numbers from 1 on. 0 is "
                f"background and {IGNORE} ignored, which have no names: leave them out."
            )
        checked_name(name)
    twice = [name for name in names.values() if list(names.values()).count(name) > 1]
    if twice:
        raise InputError(f"Two classes have the name {twice[0]!r}. Give each a name of its own.")
    return {int(number): name for number, name in names.items()}


def checked_name(name: Any) -> None:
    """Raise InputError if a value cannot be the name of a class."""
    if not isinstance(name, str) or not name:
        raise InputError(f"A class has the name {name!r}; expected text of one letter at least.")
