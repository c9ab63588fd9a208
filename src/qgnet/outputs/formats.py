"""Writes the result of an image in each output format. A file is complete or missing."""

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datamodules.files.images import decode_image
from datamodules.files.pixels import read_bytes
from datamodules.files.png import PALETTE
from datamodules.files.writing import atomic_write
from qgnet.common.errors import InputError
from qgnet.outputs.file_names import files_of
from qgnet.outputs.marking import Entry, draw_legend, draw_masks, plain
from qgnet.outputs.polygons import polygons
from qgnet.outputs.segments import Result, Segment

Writer = Callable[[Path, str, Path, Result], None]
"""Writes a result: to the output folder, under the image's name there; the third is the image's own file."""


def write_index(out: Path, name: str, source: Path, result: Result) -> None:
    """0 background, n the n-th class, in VOC's colours."""
    image = Image.fromarray(result.mask)
    image.putpalette(PALETTE)
    with atomic_write(out / the_file("index", name)) as part:
        image.save(part, format="PNG", bits=8)


def write_binary(out: Path, name: str, source: Path, result: Result) -> None:
    """0 background, 255 the object; a file per class."""
    for file, segment in files_and_segments("binary", name, result):
        write_grey(out / file, segment.mask * 255)


def write_probability(out: Path, name: str, source: Path, result: Result) -> None:
    """0 … 255 for 0 … 1; a file per class."""
    for file, segment in files_and_segments("probability", name, result):
        write_grey(out / file, eight_bits(segment.probability))


def files_and_segments(chosen: str, name: str, result: Result) -> Iterator[tuple[str, Segment]]:
    """Of a format with a file per class: the file below the output folder, and the class's segment."""
    return zip(files_of(chosen, name, tuple(result.segments)), result.segments.values(), strict=True)


def write_overlay(out: Path, name: str, source: Path, result: Result, instances: bool = False) -> None:
    """Write the image with its masks; InputError if the file has changed since it was read.

    Several classes get a legend. With `instances` single objects are outlined and counted.
    """
    image = decode_image(source, read_bytes(source))
    if image.shape[:2] != result.mask.shape:
        raise InputError(f"{source} changed while it was segmented. Run the same command again.")
    numbered = [(n, one) for n, one in enumerate(result.segments.values(), start=1) if not one.empty]
    entries = [Entry(n, plain(one.name) + (f": {one.count}" if instances else "")) for n, one in numbered]
    image = draw_masks(image, result.mask, result.instances if instances else None)
    if instances or len(result.segments) > 1:
        image = draw_legend(image, entries)
    with atomic_write(out / the_file("overlay", name)) as part:
        Image.fromarray(image).save(part, format="JPEG", quality=90)


def write_labelme(
    out: Path, name: str, source: Path, result: Result, image_path: str | None = None, instances: bool = False
) -> None:
    """Polygons as labelme reads them, in which shapes of one class and one ``group_id`` are one object.

    Args:
        out: the output folder.
        name: of the image there.
        source: the image's own file.
        result: its masks.
        image_path: path of the image for labelme; by default that of its file.
        instances: one numbered polygon for each single object, instead of one for each connected part.
    """
    height, width = result.mask.shape
    file = out / the_file("labelme", name)
    shapes = [
        {"label": segment.name, "points": polygon.tolist(), "group_id": group, "shape_type": "polygon", "flags": {}}
        for segment in result.segments.values()
        for group, mask in (objects_of(segment) if instances else [(None, segment.mask)])
        for polygon in polygons(mask)
    ]
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": path_from(file.parent, source) if image_path is None else image_path,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    write_text(file, json.dumps(content))


def objects_of(segment: Segment) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """The number of each single object, and its mask, (H, W) in {0, 1}."""
    for number in range(1, segment.count + 1):
        yield number, (segment.instances == number).astype(np.uint8)


def path_from(folder: Path, source: Path) -> str:
    """The relative path from a folder to an image, with ``/``; the absolute path on another drive."""
    here, there = Path(os.path.realpath(folder)), Path(os.path.realpath(source.parent)) / source.name
    return (there if here.drive != there.drive else Path(os.path.relpath(there, here))).as_posix()


def update_image_path(file: Path, source: Path) -> None:
    """Write the present path of the image to a labelme file; InputError if the file is damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8", errors="surrogateescape"))
        moved = content["imagePath"] != path_from(file.parent, source)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{file} is no longer a labelme file. Remove it, and run the command again.") from None
    if moved:
        write_text(file, json.dumps({**content, "imagePath": path_from(file.parent, source)}))


WRITERS: dict[str, Writer] = {
    "index": write_index,
    "binary": write_binary,
    "labelme": write_labelme,
    "overlay": write_overlay,
    "probability": write_probability,
}
"""Of the formats with files of each image."""
OF_OBJECTS: dict[str, Writer] = {
    "labelme": partial(write_labelme, instances=True),
    "overlay": partial(write_overlay, instances=True),
}
"""Of those in which single objects can be told apart."""


def writers(instances: bool) -> dict[str, Writer]:
    """Functions that write the formats with a file per image; ``instances`` adds single objects where possible."""
    return WRITERS | OF_OBJECTS if instances else WRITERS


def the_file(chosen: str, name: str) -> str:
    """The file of an image, below the output folder, in a format with one file for all classes."""
    (file,) = files_of(chosen, name, ())
    return file


def eight_bits(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """0 … 1 → 0 … 255."""
    return (values * 255).round().astype(np.uint8)


def write_grey(path: Path, grey: NDArray[np.uint8]) -> None:
    """A grey PNG."""
    with atomic_write(path) as part:
        Image.fromarray(grey).save(part, format="PNG")


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8. Undecodable bytes of file names are kept (surrogateescape)."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8", errors="surrogateescape")
