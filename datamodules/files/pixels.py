"""Decoding: the samples of an image or mask file as stored, upright and complete, or an error with its name."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from datamodules.files.jpeg import ORIENTATION
from datamodules.files.png import SIGNATURE, has_exif
from qgnet.common.errors import InputError

Array = NDArray[Any]
"""Pixels (H, W) or (H, W, C); OpenCV's types do not tell."""
LARGEST = 2**28
"""Pixels of the largest image that is read: 768 MiB of RGB."""
Image.MAX_IMAGE_PIXELS = LARGEST  # Pillow's own, a third of it, would warn for every file between the two
LOSSY = ("JPEG", "MPO", "WEBP", "AVIF", "JPEG2000")
GREY_STEPS = {"L;2": 85, "L;4": 17}
"""Pillow spreads greys of 2 and 4 bits over 0 … 255; the factor between its values and the file's."""
ALPHA = ("LA", "RGBA")
AS_STORED = ("1", "L", "LA", "RGB", "RGBA", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")
"""Pillow's modes that need no conversion, beside the palette's."""


class Samples(NamedTuple):
    """The pixels of a file as stored.

    Attributes:
        values: (H, W), or (H, W, C) of 2 (grey, alpha), 3 (RGB) or 4 (RGBA) channels; uint8, or what is deeper.
        alpha: whether the last channel is alpha.
        palette: (256, 4) uint8 RGBA where the values are palette indices, else None.
        step: factor between the values and the file's numbers (greys of 2 and 4 bits are spread over 0 … 255).
        lossy: whether the format changes values on writing.
    """

    values: Array
    alpha: bool
    palette: Array | None
    step: int
    lossy: bool


def read_error(path: Path, error: Exception) -> InputError:
    """The error of a file that cannot be opened or decoded."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path} does not exist, though the list names it. Add it, or take the name out of the list.")
    if isinstance(error, PermissionError):
        return InputError(f"{path} cannot be read (permission denied). Give yourself the right to read it.")
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return too_large_error(path, str(error))
    reason = "its format is unknown" if isinstance(error, UnidentifiedImageError) else str(error) or repr(error)
    if isinstance(error, UnidentifiedImageError) and path.is_file() and not path.stat().st_size:
        reason = "it is empty"
    return InputError(f"{path} cannot be decoded ({reason}). Restore it from its source, or take it away.")


def too_large_error(path: Path, found: str) -> InputError:
    """The error of an image with too many pixels."""
    return InputError(
        f"{path} is too large ({found}); at most {LARGEST:,} pixels are read, e.g. 16384x16384. Cut it into tiles, or "
        "make it smaller."
    )


def check_pixels(path: Path, height: int, width: int) -> None:
    """Raise InputError if an image of this size is too large."""
    if height * width > LARGEST:
        raise too_large_error(path, f"{width}x{height} px")


@contextmanager
def open_image(path: Path, stream: BinaryIO) -> Iterator[ImageFile.ImageFile]:
    """Open a file with Pillow; every error of Pillow and OpenCV about it becomes an InputError."""
    try:
        with Image.open(stream) as file:
            check_pixels(path, file.height, file.width)
            yield file
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a broken file makes decoders raise anything
        raise read_error(path, error) from None


def read_bytes(path: Path) -> bytes:
    """All bytes of a file; InputError if it is missing or cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise read_error(path, error) from None


def orientation(file: ImageFile.ImageFile) -> int:
    """How the samples that Pillow gives must be turned, EXIF's 1 … 8; 1 for TIFF, which Pillow turns itself."""
    if file.format == "TIFF" or (file.format == "PNG" and not has_exif(file)):
        return 1  # asked of a PNG without EXIF, Pillow would decode it
    found = file.getexif().get(ORIENTATION, 1)
    return found if found in range(1, 9) else 1


def upright(values: Array, orientation: int) -> Array:
    """Samples as stored (H, W) or (H, W, C) → as EXIF's orientation 1 … 8 wants them shown."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    rows, columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(values[:: -1 if rows else 1, :: -1 if columns else 1])


def read_samples(path: Path) -> Samples:
    """The pixels of any file as they are stored, upright; InputError if they cannot be read whole."""
    return decode_samples(path, read_bytes(path))


def decode_samples(path: Path, data: bytes) -> Samples:
    """The pixels in a file's bytes; ``path`` is what an InputError calls it."""
    if data.startswith(SIGNATURE):
        with open_image(path, io.BytesIO(data)) as file:
            file.verify()  # decoding a PNG, Pillow does not look at its checksums
    with open_image(path, io.BytesIO(data)) as file:
        return samples(path, file, data)


def samples(path: Path, file: ImageFile.ImageFile, data: bytes) -> Samples:
    """The pixels of an open file whose bytes are ``data``."""
    turn, step, lossy = orientation(file), grey_step(file), file.format in LOSSY
    if is_deep_colour(file, data):
        values, alpha = deep_colour(path, file, data)
        return Samples(upright(values, turn), alpha, None, 1, lossy)
    file.load()
    if file.mode == "P":
        return Samples(upright(np.asarray(file), turn), False, palette_of(file), 1, lossy)
    unconverted = file.mode in AS_STORED
    image = file if unconverted else file.convert("RGBA" if file.mode in ("PA", "La", "RGBa") else "RGB")
    values = np.asarray(image)
    values = values.astype(np.uint8) if values.dtype == bool else values
    return Samples(upright(values, turn), image.mode in ALPHA, None, step, lossy)


def palette_of(file: ImageFile.ImageFile) -> Array:
    """(256, 4) uint8 RGBA of a palette file; transparent indices have alpha 0."""
    file.apply_transparency()
    colours = np.full((256, 4), (0, 0, 0, 255), np.uint8)
    listed = np.asarray(file.getpalette("RGBA"), np.uint8).reshape(-1, 4)
    colours[: len(listed)] = listed
    return colours


def grey_step(file: ImageFile.ImageFile) -> int:
    """By what Pillow multiplies the greys of a file with 2 or 4 bits a pixel; asked before its pixels are loaded."""
    return GREY_STEPS.get(raw_mode(file), 1)


def raw_mode(file: ImageFile.ImageFile) -> str:
    """How the samples lie in the file, in Pillow's words, e.g. ``RGB;16B``."""
    if not file.tile:
        return ""
    arguments = file.tile[0].args
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def is_deep_colour(file: ImageFile.ImageFile, data: bytes) -> bool:
    """Whether it has several channels of more than 8 bits, of which Pillow would keep the upper byte only."""
    if file.mode not in ("LA", "RGB", "RGBA", "RGBX"):
        return False
    if file.format == "JPEG2000":
        box = data.find(b"ihdr")
        return box >= 0 and (data[box + 14] & 0x7F) >= 8
    return ";16" in raw_mode(file)


def deep_colour(path: Path, file: ImageFile.ImageFile, data: bytes) -> tuple[Array, bool]:
    """16-bit (H, W, C) samples as stored (grey and alpha become RGBA), and whether there is alpha, by OpenCV."""
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.ndim < 3 or values.shape[2] not in (3, 4):
        raise InputError(f"{path} is a {file.format} of {file.mode}, 16 bits a channel, which is not read. Save 8.")
    alpha = values.shape[2] == 4
    return cv2.cvtColor(values, cv2.COLOR_BGRA2RGBA if alpha else cv2.COLOR_BGR2RGB), alpha
