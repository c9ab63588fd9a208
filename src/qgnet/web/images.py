"""The images of the folder. The page asks for them by key, never by path, and gets no file outside the folder."""

import hashlib
import secrets
from pathlib import Path
from typing import NamedTuple

import cv2
from PIL import Image

from datamodules.episodes.transforms import letterbox_size
from datamodules.files import find_files, read_image, read_image_size
from datamodules.files.writing import atomic_write
from qgnet.common.errors import InputError

THUMBNAIL = 160
"""Longer side of a thumbnail, in pixels."""
DISPLAY = 2560
"""Longer side of an image on the page, in pixels; masks keep the size of the image."""
MOST_PIXELS = 100_000_000
"""Most pixels of an image that is dropped onto the page."""
DROPPED = "dropped"
"""Folder for dropped images, inside the image folder."""
ENDINGS = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif", "GIF": ".gif"}
"""Formats of images that may be dropped, by Pillow's names → file ending."""


class FolderImage(NamedTuple):
    """An image of the folder: its key on the page, its name below the folder, and its file."""

    key: str
    name: str
    path: Path


class ImageFolder:
    """All current images of a folder and its subfolders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[str, FolderImage] = {}

    def check_there(self) -> None:
        """Raise InputError if the folder is missing."""
        if not self.folder.is_dir():
            raise InputError(
                f"The folder {self.folder} is gone. Put it back; nothing that you painted is lost with it."
            )

    def find(self) -> list[FolderImage]:
        """Search the folder; skip links to files outside it. InputError if the folder is missing."""
        self.check_there()
        root = self.folder.resolve()
        found = {}
        for name in find_files(self.folder).files:
            path = self.folder / name
            if path.resolve().is_relative_to(root):
                key = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:16]
                found[key] = FolderImage(key, name.encode(errors="surrogateescape").decode(errors="replace"), path)
        self.known = found
        return list(found.values())

    def get(self, key: str) -> FolderImage:
        """The image with this key; KeyError if the folder does not contain it, InputError if the folder is missing."""
        self.check_there()
        image = self.known[key]
        if not image.path.is_file() or not image.path.resolve().is_relative_to(self.folder.resolve()):
            raise KeyError(key)
        return image


def scaled(image: FolderImage, side: int, to: Path) -> Path:
    """A JPEG of the image with a longer side of at most ``side`` pixels; cached until the image changes."""
    file = to / f"{image.key}-{image.path.stat().st_mtime_ns}.jpg"
    if not file.is_file():
        pixels = read_image(image.path)
        if max(pixels.shape[:2]) > side:
            height, width = letterbox_size(pixels.shape[0], pixels.shape[1], side)
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        with atomic_write(file) as part:
            Image.fromarray(pixels).save(part, format="JPEG", quality=90)
    return file


def store_dropped(folder: Path, content: bytes, to: Path) -> str:
    """Store an image that was dropped onto the page under a new random name; return its path below the folder.

    It is first written to the folder ``to``. InputError if it is not a complete image of a known format, or too large.
    """
    made_up = secrets.token_hex(8)
    to.mkdir(exist_ok=True)
    part = to / made_up
    try:
        part.write_bytes(content)
        try:
            height, width = read_image_size(part)
            if height * width > MOST_PIXELS:
                raise InputError(f"it has {width}x{height} px; at most {MOST_PIXELS:,} pixels can be dropped.")
            read_image(part)
        except InputError as error:
            raise InputError(str(error).replace(str(part), "it")) from None
        with Image.open(part) as file:
            ending = ENDINGS.get(str(file.format))
        if ending is None:
            raise InputError(f"its format is {file.format}; expected one of {', '.join(ENDINGS)}.")
        name = f"{DROPPED}/{made_up}{ending}"
        (folder / DROPPED).mkdir(exist_ok=True)
        if not (folder / DROPPED).resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{folder / DROPPED} is a link out of the folder. Take it away.")
        part.replace(folder / name)
    finally:
        part.unlink(missing_ok=True)
    return name
