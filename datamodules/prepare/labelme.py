"""Labels of labelme: JSON files with polygons and other shapes, one per image."""

import base64
import binascii
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from datamodules.files import read_image_size
from datamodules.files.images import decode_image
from datamodules.files.masks import decode_mask
from datamodules.files.sources import Array
from datamodules.prepare.annotations import (
    AnnotatedImage,
    Skipped,
    flat_name,
    has_class,
    json_files,
    number_classes,
    read_json,
)
from datamodules.prepare.shapes import ShapeError, draw_polygons, polygon_fault
from qgnet.common.errors import InputError

OUTLINES = ("polygon", "rectangle", "oriented_rectangle", "rotation")
"""Shapes that are given by their corners; some tools write all four corners of a rectangle."""


def read_labelme(source: Path, skipped: Skipped) -> tuple[dict[int, str], Iterator[AnnotatedImage]]:
    """Classes and images of a folder of labelme's JSON files, one per image."""
    files = json_files(source) if source.is_dir() else [source]
    contents = {path: read_json(path) for path in files}
    contents = {
        path: content for path, content in contents.items() if isinstance(content, dict) and "shapes" in content
    }
    if not contents:
        raise InputError(f"{source} holds no JSON file of labelme. Give the folder of its files.")
    for path, content in contents.items():
        if not isinstance(content["shapes"], list) or not all(isinstance(shape, dict) for shape in content["shapes"]):
            raise InputError(f"{path} is not a labelme file: its shapes are not a list. Save it again by labelme.")
    labels = {label(shape) for content in contents.values() for shape in content["shapes"]} - {""}
    classes, numbers = number_classes(sorted(labels), skipped)
    base = source if source.is_dir() else source.parent
    return classes, labelme_images(base, contents, numbers, skipped)


def label(shape: Mapping[str, Any]) -> str:
    """The label of a shape; empty if it has none."""
    found = shape.get("label")
    return "" if found is None else str(found)


def labelme_images(
    base: Path, contents: Mapping[Path, Any], numbers: Mapping[str, int], skipped: Skipped
) -> Iterator[AnnotatedImage]:
    """The images of labelme's files with their shapes, drawn in order."""
    for path, content in contents.items():
        named = str(content.get("imagePath") or "").replace("\\", "/")
        image = labelme_image(path.parent / named, content.get("imageData"))
        if not image:
            skipped.add(f"labelme file whose image ({named or 'no name'}) is not there", path.name)
            continue
        try:
            height, width = decode_image(path, image).shape[:2] if isinstance(image, bytes) else read_image_size(image)
        except InputError:
            skipped.add("labelme file whose image cannot be read", path.name)
            continue
        said = (content.get("imageHeight") or height, content.get("imageWidth") or width)
        if said != (height, width):
            reason = f"its image (e.g. {width}x{height}, not {said[1]}x{said[0]})"
            skipped.add(f"labelme file that gives another size than {reason} has", path.name)
            continue
        mask = np.zeros((height, width), np.uint8)
        for i, shape in enumerate(content["shapes"]):
            try:
                inside = labelme_shape(path, shape, height, width)
            except ShapeError as reason:
                skipped.add(f"shape {reason}", f"{path.name}[{i}]")
            else:
                mask[inside] = numbers[label(shape)]
        name = flat_name(path.relative_to(base).as_posix())
        ending = PurePosixPath(named).suffix or ".png"
        yield AnnotatedImage(name, image, ending, mask if has_class(mask) else None)


def labelme_image(file: Path, data: Any) -> Path | bytes:
    """The image of a labelme file: its path if it exists, else the bytes inside the JSON; empty without both."""
    if file.is_file():
        return file
    try:
        return base64.b64decode(data or "", validate=True)
    except (binascii.Error, TypeError, ValueError):
        return b""


def labelme_shape(path: Path, shape: Mapping[str, Any], height: int, width: int) -> Array:
    """The mask of one shape, (height, width) bool; ShapeError if it has no label or no area, or cannot be drawn."""
    if not label(shape):
        raise ShapeError("without a label")
    kind = shape.get("shape_type") or "polygon"
    points = shape.get("points")
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise ShapeError("whose points are no pairs of numbers")
    flat = [value for point in points for value in point]
    if len(points) == 2 and kind in ("rectangle", "circle", "mask"):
        fault = polygon_fault([*flat, *flat], height, width)
    elif len(points) >= 3 and kind in OUTLINES:
        fault = polygon_fault(flat, height, width)
    else:
        raise ShapeError(f"without area ({kind})")
    if fault:
        raise ShapeError(fault)
    inside = drawn(path, kind, points, shape.get("mask"), height, width)
    if not inside.any():
        raise ShapeError("that covers no pixel's centre")
    return inside


def drawn(path: Path, kind: str, points: list[list[float]], mask: Any, height: int, width: int) -> Array:
    """The mask, (height, width) bool, of an outline, a circle (centre and a point on it) or a mask in a rectangle."""
    if kind == "circle":
        (x, y), (px, py) = points
        rows, columns = np.mgrid[:height, :width] + 0.5
        inside: Array = np.hypot(columns - x, rows - y) <= np.hypot(px - x, py - y)
        return inside
    if kind == "mask":
        return draw_part(path, mask, points, height, width)
    if len(points) == 2:
        (left, top), (right, bottom) = points
        points = [[left, top], [right, top], [right, bottom], [left, bottom]]
    return draw_polygons([[value for point in points for value in point]], height, width)


def draw_part(path: Path, mask: Any, points: list[list[float]], height: int, width: int) -> Array:
    """The mask, (height, width) bool, given for the rectangle between two points, inclusive; ShapeError if invalid."""
    (left, right), (top, bottom) = (sorted(int(point[axis]) for point in points) for axis in (0, 1))
    try:
        part = decode_mask(path, base64.b64decode(mask, validate=True))
    except (binascii.Error, TypeError, ValueError, InputError):
        raise ShapeError("whose mask cannot be read") from None
    if any(
        abs(found - named) > 1 for found, named in zip(part.shape, (bottom - top + 1, right - left + 1), strict=True)
    ):
        raise ShapeError("whose mask has another size than its points say")
    rows, columns = np.nonzero(part)
    rows, columns = rows + top, columns + left
    within = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    inside = np.zeros((height, width), bool)
    inside[rows[within], columns[within]] = True
    return inside
