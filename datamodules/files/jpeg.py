"""The head of a JPEG file, read without decoding."""

import io
import struct
from typing import BinaryIO, NamedTuple

from PIL import Image

ORIENTATION = 0x0112
"""EXIF's tag of how the image must be turned."""
EXIF = b"Exif\0\0"
START, END, SCAN, APP1 = 0xD8, 0xD9, 0xDA, 0xE1
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers that begin a frame; those three between them are tables."""


class JpegHead(NamedTuple):
    """Size as stored, before any turn; channels (1 grey, 3 colour, 4 CMYK); EXIF's 1 … 8; where the pixels begin."""

    height: int
    width: int
    channels: int
    orientation: int
    scan: int


def read_head(file: BinaryIO) -> JpegHead | None:
    """The head of a JPEG file at its beginning; None if it is no JPEG of 8 bits, or its head is not whole."""
    if file.read(2) != bytes([0xFF, START]):
        return None
    frame: tuple[int, int, int] | None = None
    exif = b""
    while (marker := next_marker(file)) is not None:
        size = file.read(2)
        if len(size) < 2:
            return None
        length = struct.unpack(">H", size)[0] - 2
        if marker == SCAN:
            return JpegHead(*frame, exif_orientation(exif), file.tell()) if frame else None
        if marker in FRAMES:
            content = file.read(length)
            if len(content) < 6 or content[0] != 8:
                return None
            frame = struct.unpack(">HHB", content[1:6])
            if not frame[0]:  # the height follows the pixels
                return None
        elif marker == APP1 and not exif:
            content = file.read(length)
            exif = content if content.startswith(EXIF) else b""
        else:
            file.seek(length, io.SEEK_CUR)
    return None


def next_marker(file: BinaryIO) -> int | None:
    """The next segment's marker; None at the end of the file or where there is no marker."""
    byte = file.read(1)
    while byte == b"\xff":
        byte = file.read(1)
        if byte and byte != b"\xff":
            return byte[0]
    return None


def exif_orientation(content: bytes) -> int:
    """EXIF's orientation, 1 … 8; 1 (as stored) if it is missing or cannot be read, as in viewers."""
    if not content:
        return 1
    exif = Image.Exif()
    try:
        exif.load(content)
        found = exif.get(ORIENTATION, 1)
    except (SyntaxError, ValueError, OSError, struct.error):
        return 1
    return found if found in range(1, 9) else 1


def has_end(data: bytes, head: JpegHead) -> bool:
    """Whether the file's end marker follows its pixels: no compressed pixel looks like it."""
    return data.rfind(bytes([0xFF, END])) >= head.scan
