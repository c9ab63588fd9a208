"""Pictures and masks as users hand them over: files, PIL images or arrays."""

import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from datamodules.files import read_picture
from datamodules.files.masks import decode_index_mask, decode_mask
from datamodules.files.pictures import decode_picture
from datamodules.files.pixels import contents
from datamodules.files.sources import IGNORE, Array
from qgnet.common.errors import InputError
from qgnet.outputs.segments import MOST_CLASSES

NAMELESS = Path("the PIL image")
"""What messages call it."""
PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
Given = str | Path | Image.Image | NDArray[Any]
"""A file; a PIL image; or an array, see `picture` and `class_numbers`."""


def picture(given: Given) -> Array:
    """(H, W, 3) uint8 RGB in its displayed orientation.

    Args:
        given: file, PIL image, or a uint8 array (H, W, 3) RGB or (H, W) grey.

    Raises:
        InputError: if it cannot be read, or is an array of another kind.
    """
    if isinstance(given, str | Path):
        return read_picture(Path(given))
    if isinstance(given, Image.Image):
        return decode_picture(NAMELESS, as_file(given))
    if given.dtype != np.uint8 or given.ndim not in (2, 3) or given.shape[2:] not in ((), (3,)) or not given.size:
        raise InputError(f"A picture is a {given.dtype} array {given.shape}; expected uint8, (H, W, 3) or (H, W).")
    return given if given.ndim == 3 else np.repeat(given[:, :, None], 3, axis=2)


def class_numbers(given: Given, numbers: Collection[int]) -> Array:
    """A mask as (H, W) uint8: 0 background, 255 ignored, and class numbers.

    Args:
        given: file, PIL image, or an array (H, W) of bool or of whole numbers.
        numbers: the classes that there may be. If that is 1 alone, black and white masks are taken, too: what is not
            0 is the object where the mask has but one value beside 0.

    Raises:
        InputError: if it cannot be read, is coloured, or holds other numbers.
    """
    single = set(numbers) == {1}
    if isinstance(given, np.ndarray):
        values: NDArray[Any] = given
    else:
        path, data = (
            (NAMELESS, as_file(given)) if isinstance(given, Image.Image) else (Path(given), contents(Path(given)))
        )
        values = _single(path, data) if single else decode_index_mask(path, data)
    if values.ndim != 2 or not (values.dtype == bool or np.issubdtype(values.dtype, np.integer)):
        raise InputError(f"A mask is a {values.dtype} array {values.shape}; expected bool or whole numbers, (H, W).")
    found = set(np.unique(values).tolist()) - {0}
    if single and len(found) == 1:
        return (values != 0).astype(np.uint8)
    unknown = sorted(found - {*numbers, IGNORE})
    if unknown:
        raise InputError(
            f"A mask holds the value {unknown[0]}; expected 0 (background), {IGNORE} (ignored) or "
            f"{', '.join(map(str, numbers))}."
        )
    return values.astype(np.uint8)


def _single(path: Path, data: bytes) -> NDArray[Any]:
    """A mask of one object: 0, 1 and 255 (ignored) as they stand, all else as any binary mask."""
    try:
        values = decode_index_mask(path, data)
    except InputError:  # in colour, which a binary mask may be
        return decode_mask(path, data)
    return values if set(np.unique(values).tolist()) == {0, 1, IGNORE} else decode_mask(path, data)


def as_file(image: Image.Image) -> bytes:
    """A PIL image as a file without loss, upright: it is then read by the same rules as any file."""
    upright, stream = ImageOps.exif_transpose(image), io.BytesIO()
    if upright.mode in PNG_MODES:
        upright.save(stream, "PNG", compress_level=0)
    else:
        upright.save(stream, "TIFF")
    return stream.getvalue()


def name_of(given: Given, number: int) -> str:
    """A file's name, or a number for what has none."""
    return str(given) if isinstance(given, str | Path) else f"support {number}"


OBJECT = "object"
"""Name of the class where the user gives none."""


Pairs = Sequence[tuple[Given, Given]]


def read_supports(
    supports: Pairs | Mapping[str, Pairs], names: Mapping[int, str] | None
) -> dict[str, list[tuple[Array, Array]]]:
    """Class name → pictures and masks in {0, 1, 255}; errors as of :meth:`Segmenter.fit`."""
    if names is not None:
        twice = [name for name in names.values() if list(names.values()).count(name) > 1]
        if twice:
            raise InputError(f"Two classes have the name {twice[0]!r}. Give each a name of its own.")
    by_class: dict[str, list[tuple[Array, Array]]] = {}
    groups = supports if isinstance(supports, Mapping) else {OBJECT: supports}
    if len(names or groups) > MOST_CLASSES:
        raise InputError(
            f"There are {len(names or groups)} classes; a mask takes at most {MOST_CLASSES}, beside 0 (background) and "
            f"{IGNORE} (not known). Segment some of them first, then the others."
        )
    for name, pairs in groups.items():
        for number, (image, mask) in enumerate(pairs, start=1):
            pixels = picture(image)
            labels = class_numbers(mask, list(names) if names else [1])
            called = f"The mask of {name_of(image, number)}"
            if labels.shape != pixels.shape[:2]:
                raise InputError(
                    f"{called} is {labels.shape[1]}x{labels.shape[0]} px, the picture {pixels.shape[1]}x"
                    f"{pixels.shape[0]} px. Both must be of one size."
                )
            if not ((labels != 0) & (labels != IGNORE)).any():
                raise InputError(f"{called} is empty: no pixel is marked. Mark the object with 1 (or white).")
            for key, label in names.items() if names else [(1, name)]:
                if (labels == key).any():
                    binary = np.where(labels == IGNORE, IGNORE, labels == key).astype(np.uint8)
                    if not (binary == 0).any():
                        raise InputError(f"{called} marks everything: there is no background. Mark the object alone.")
                    by_class.setdefault(label, []).append((pixels, binary))
    missing = [name for name in (names.values() if names else groups) if name not in by_class]
    if missing or not by_class:
        raise InputError(
            f"There is no support of {missing[0]!r}. Give at least one picture with a mask of it."
            if missing
            else "There is no support. Give at least one picture with the mask of what is to be found."
        )
    return {name: by_class[name] for name in (names.values() if names else groups)}
