"""Images: size and pixels, as a viewer shows them."""

import io
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import ImageFile

from datamodules.files.jpeg import JpegHead, has_end, read_head
from datamodules.files.pixels import (
    Array,
    Samples,
    check_pixels,
    open_image,
    orientation,
    read_bytes,
    read_error,
    samples,
    upright,
)
from qgnet.common.errors import InputError
from qgnet.common.terminal import warn

WHITE = 255
SINGLE_IMAGE_FORMATS = ("JPEG", "MPO")
"""Formats whose further images are of the first one."""
KIND, SMALLER = 254, 1
"""TIFF's tag of what a page is, and its bit for a smaller copy of another one."""


def read_image(path: Path) -> Array:
    """An image as (H, W, 3) uint8 RGB, contiguous.

    It is rotated by its EXIF orientation. Grey, palette and CMYK become RGB. Transparent parts are placed on white.
    Values of more than 8 bits are stretched from their own range to 0 … 255. Of several pages or frames the first is
    read, with a warning.

    Raises:
        InputError: if the file is missing, broken, cut off, too large, or of a kind that is not read.
    """
    image, pages = first_page(path, read_bytes(path))
    if pages > 1:
        warn(f"{path} has {pages} pages or frames: only the first is read.")
    return image


def decode_image(path: Path, data: bytes) -> Array:
    """What :func:`read_image` gives for a file whose bytes are ``data``; ``path`` is what an InputError calls it."""
    return first_page(path, data)[0]


def first_page(path: Path, data: bytes) -> tuple[Array, int]:
    """As `decode_image`, and how many pages or frames there are in the bytes, see `count_pages`."""
    head = jpeg_head(path, data)
    if head is not None:
        return read_jpeg(path, data, head, cv2.IMREAD_COLOR_RGB), 1
    with open_image(path, io.BytesIO(data)) as file:
        if file.mode in ("1", "P") or "transparency" in file.info:
            file.load()
            file_, turn = file.convert("RGBA"), orientation(file)
            found = Samples(upright(np.asarray(file_), turn), True, None, 1, False)
        else:
            found = samples(path, file, data)
        pages = pages_of(file)
    return as_rgb(path, found), pages


def read_image_size(path: Path) -> tuple[int, int]:
    """(height, width) of what :func:`read_image` gives, from the file's head alone."""
    try:
        with open(path, "rb") as stream:
            head = read_head(stream)
            if head is not None:
                check_pixels(path, head.height, head.width)
                return shown(head.height, head.width, head.orientation)
            stream.seek(0)
            with open_image(path, stream) as file:
                return shown(file.height, file.width, orientation(file))
    except OSError as error:
        raise read_error(path, error) from None


def verify_image(path: Path) -> tuple[int, int]:
    """(height, width) of an image, which is read to its end; a JPEG at an eighth of its resolution."""
    data = read_bytes(path)
    head = jpeg_head(path, data)
    if head is None:
        height, width = read_image(path).shape[:2]
        return height, width
    read_jpeg(path, data, head, cv2.IMREAD_REDUCED_COLOR_8)
    return shown(head.height, head.width, head.orientation)


def stamp(path: Path) -> list[int]:
    """Size in bytes and modification time in ns: they change with the content of a file."""
    try:
        status = path.stat()
    except OSError as error:
        raise read_error(path, error) from None
    return [status.st_size, status.st_mtime_ns]


def count_pages(path: Path) -> int:
    """Number of pages or frames in a file, at least 1; the first is read.

    Not counted are smaller copies of a TIFF page, further images in a JPEG (depth, brightness), and pages behind a
    broken place of a TIFF.
    """
    try:
        with open(path, "rb") as stream, open_image(path, stream) as file:
            return pages_of(file)
    except OSError as error:
        raise read_error(path, error) from None


def pages_of(file: ImageFile.ImageFile) -> int:
    """The same of a file that Pillow has opened; what it has decoded of it is lost."""
    if file.format == "TIFF":
        return max(1, sum(not kind & SMALLER for kind in tiff_kinds(file)))
    return int(getattr(file, "n_frames", 1)) if file.format not in SINGLE_IMAGE_FORMATS else 1


def tiff_kinds(file: ImageFile.ImageFile) -> Iterator[int]:
    """What each page of an open TIFF says of its kind (tag 254, a set of bits), up to the first that is broken."""
    number = 0
    while True:
        try:
            file.seek(number)
        except Exception:  # EOFError after the last; a broken file makes decoders raise anything
            return
        yield int(file.tag_v2.get(KIND, 0))  # type: ignore[attr-defined]
        number += 1


def shown(height: int, width: int, orientation: int) -> tuple[int, int]:
    """(height, width) after the turn that EXIF's orientation 1 … 8 asks for."""
    return (width, height) if orientation >= 5 else (height, width)


def jpeg_head(path: Path, data: bytes) -> JpegHead | None:
    """The head of a complete JPEG in grey or colour, which OpenCV decodes fastest; None for other files.

    A JPEG without its end marker is left to Pillow, which refuses it.
    """
    head = read_head(io.BytesIO(data))
    if head is None or head.channels not in (1, 3) or not has_end(data, head):
        return None
    check_pixels(path, head.height, head.width)
    return head


def read_jpeg(path: Path, data: bytes, head: JpegHead, flags: int) -> Array:
    """A JPEG's pixels, turned; InputError if OpenCV cannot decode them."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise read_error(path, error) from None
    if image is None:
        raise InputError(f"{path} cannot be decoded (a broken JPEG). Restore it from its source, or take it away.")
    return upright(image, head.orientation) if head.orientation > 1 else image


def as_rgb(path: Path, found: Samples) -> Array:
    """Samples of any kind → (H, W, 3) uint8 RGB."""
    values = found.values
    colours, alpha = (values[..., :-1], values[..., -1:]) if found.alpha else (values, None)
    if values.dtype != np.uint8:
        colours = stretched(path, colours)
        alpha = None if alpha is None else (alpha >> 8).astype(np.uint8)
    if alpha is not None and alpha.min(initial=WHITE) < WHITE:
        share = alpha.astype(np.uint16)
        colours = ((colours * share + WHITE * (WHITE - share) + WHITE // 2) // WHITE).astype(np.uint8)
    if colours.ndim == 2 or colours.shape[2] == 1:
        return cv2.cvtColor(np.ascontiguousarray(colours), cv2.COLOR_GRAY2RGB)
    return np.ascontiguousarray(colours)


def stretched(path: Path, values: Array) -> Array:
    """Finite values of more than 8 bits → uint8, the lowest becoming 0, the highest 255; one value alone becomes 0."""
    lowest, highest = float(values.min()), float(values.max())
    if not np.isfinite([lowest, highest]).all():
        raise InputError(f"{path} holds values from {lowest} to {highest}; expected finite numbers. Replace others.")
    scale = 255 / (highest - lowest) if highest > lowest else 0.0
    return np.rint((values.astype(np.float64) - lowest) * scale).astype(np.uint8)
