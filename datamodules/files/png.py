"""What Pillow leaves to do with PNG files: VOC's colours, and whether one says how it must be turned."""

import io
import struct
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

SIGNATURE = b"\x89PNG\r\n\x1a\n"
EXIF = b"eXIf"
"""The chunk that says how a picture must be turned."""
PALETTE = [int(f"{i:08b}"[::-1][c::3].ljust(8, "0")[:8], 2) for i in range(256) for c in range(3)]
"""VOC's colours, red, green and blue of each class: their bits are every third bit of the class number."""


def write_plain_png(path: Path, labels: NDArray[np.uint8]) -> None:
    """Write class numbers (H, W) in VOC's colours; the file appears by rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    image.putpalette(PALETTE)
    part = path.with_suffix(".part")
    image.save(part, format="PNG", bits=8)
    part.replace(path)


def has_exif(file: ImageFile.ImageFile) -> bool:
    """Whether a PNG that Pillow has opened says how it must be turned, be it after its pixels."""
    stream = file.fp
    if "exif" in file.info or stream is None:
        return "exif" in file.info
    position = stream.tell()
    found = EXIF in chunks(stream)
    stream.seek(position)
    return found


def chunks(stream: IO[bytes]) -> list[bytes]:
    """The kinds of all chunks of a PNG stream, in order."""
    stream.seek(len(SIGNATURE))
    kinds = []
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        kinds.append(kind)
        stream.seek(length + 4, io.SEEK_CUR)
    return kinds
