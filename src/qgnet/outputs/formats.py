"""What is written of each photograph, in the formats that there are; every file appears by rename."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datamodules.files import read_picture
from datamodules.files.png import PALETTE
from datamodules.files.sources import Array
from datamodules.files.writing import atomic_write
from qgnet.common.choices import Format
from qgnet.outputs.polygons import polygons
from qgnet.outputs.segments import Result

COLOURS = [(255, 60, 40), (60, 150, 255), (255, 200, 0), (60, 200, 90), (190, 90, 255), (0, 210, 210)]
"""Of classes in overlays, again from the first after the last."""


OTHER_FOLDERS = ("overlays", "probabilities", "labelme")


def write_index(out: Path, name: str, photograph: Path, result: Result) -> None:
    """``<name>.png``: 0 background, n the n-th class, in VOC's colours."""
    image = Image.fromarray(result.mask)
    image.putpalette(PALETTE)
    with atomic_write(out / f"{name}.png") as part:
        image.save(part, format="PNG", bits=8)


def write_binary(out: Path, name: str, photograph: Path, result: Result) -> None:
    """``<name>.png``: 0 background, 255 the object; of several classes ``<class>/<name>.png`` each."""
    for segment in result.segments.values():
        write_grey(of_class(out, segment.name, result) / f"{name}.png", segment.mask * 255)


def write_probability(out: Path, name: str, photograph: Path, result: Result) -> None:
    """``probabilities/<name>.png``: 0 … 255 for 0 … 1; of several classes ``probabilities/<class>/<name>.png`` each."""
    for segment in result.segments.values():
        grey = (segment.probability * 255).round().astype(np.uint8)
        write_grey(of_class(out / "probabilities", segment.name, result) / f"{name}.png", grey)


def write_overlay(out: Path, name: str, photograph: Path, result: Result) -> None:
    """``overlays/<name>.jpg``: the photograph with the masks over it."""
    picture = painted(read_picture(photograph), result.mask)
    with atomic_write(out / "overlays" / f"{name}.jpg") as part:
        Image.fromarray(picture).save(part, format="JPEG", quality=90)


def write_labelme(out: Path, name: str, photograph: Path, result: Result) -> None:
    """``labelme/<name>.json``: polygons as labelme reads them."""
    height, width = result.mask.shape
    shapes = [
        {"label": segment.name, "points": polygon.tolist(), "group_id": None, "shape_type": "polygon", "flags": {}}
        for segment in result.segments.values()
        for polygon in polygons(segment.mask)
    ]
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": str(photograph.resolve()),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    write_text(out / "labelme" / f"{name}.json", json.dumps(content))


FORMATS: dict[Format, Callable[[Path, str, Path, Result], None] | None] = {
    "index": write_index,
    "binary": write_binary,
    "coco": None,  # one file of all photographs, from the records
    "labelme": write_labelme,
    "overlay": write_overlay,
    "probability": write_probability,
}
"""Name → what writes a photograph's files."""


def painted(picture: Array, mask: NDArray[np.uint8]) -> Array:
    """(H, W, 3) with each class of (H, W) in its colour, half transparent, outlined."""
    blended = picture.copy()
    for number in np.unique(mask[mask > 0]).tolist():
        inside = (mask == number).astype(np.uint8)
        colour = COLOURS[(number - 1) % len(COLOURS)]
        blended[inside == 1] = (0.5 * blended[inside == 1] + 0.5 * np.array(colour)).astype(np.uint8)
        outlines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(blended, outlines, -1, colour, max(1, max(mask.shape) // 400))
    return blended


def of_class(folder: Path, name: str, result: Result) -> Path:
    """The folder itself for a single class, else one in it that is named after the class, and after no other."""
    if len(result.segments) == 1:
        return folder
    taken = [segment.name for segment in result.segments.values() if folder_name(segment.name) == folder_name(name)]
    return folder / (folder_name(name) + (f"-{1 + taken.index(name)}" if len(taken) > 1 else ""))


def folder_name(name: str) -> str:
    """A class's name as that of a folder: none that lies elsewhere, is hidden, or is used for other files."""
    plain = name.replace("/", "_").replace("\\", "_")
    return f"_{plain}" if plain.startswith(".") or plain in OTHER_FOLDERS else plain


def write_grey(path: Path, grey: NDArray[np.uint8]) -> None:
    """A grey PNG."""
    with atomic_write(path) as part:
        Image.fromarray(grey).save(part, format="PNG")


def write_text(path: Path, text: str) -> None:
    """A text file in UTF-8; a file's name that is none stands in it byte by byte as it is."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8", errors="surrogateescape")
