"""Labels of labelme: JSON files with polygons and other shapes."""

import base64
import binascii
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from datamodules.files import picture_size
from datamodules.files.masks import decode_mask
from datamodules.files.sources import Array
from datamodules.prepare.coco_masks import instance
from datamodules.prepare.labelled import BACKGROUND, Labelled, Skipped, image_name, json_files, read_json
from qgnet.common.errors import InputError


def read_labelme(source: Path, skipped: Skipped) -> tuple[dict[int, str], Iterator[Labelled]]:
    """Classes and images of a folder of labelme's JSON files, one per image."""
    files = json_files(source) if source.is_dir() else [source]
    contents = {path: read_json(path) for path in files}
    contents = {
        path: content for path, content in contents.items() if isinstance(content, dict) and "shapes" in content
    }
    if not contents:
        raise InputError(f"{source} holds no JSON file of labelme. Give the folder of its files.")
    labels = {str(shape.get("label")) for content in contents.values() for shape in content["shapes"]}
    classes = dict(enumerate(sorted(labels - set(BACKGROUND)), start=1))
    base = source if source.is_dir() else source.parent
    return classes, labelme_images(base, contents, {name: number for number, name in classes.items()}, skipped)


def labelme_images(
    base: Path, contents: Mapping[Path, Any], number: Mapping[str, int], skipped: Skipped
) -> Iterator[Labelled]:
    """The images of labelme's files, shapes drawn in their order."""
    for path, content in contents.items():
        named = str(content.get("imagePath") or "").replace("\\", "/")
        picture: Path | bytes = path.parent / named
        if not named or not (path.parent / named).is_file():
            try:
                picture = base64.b64decode(content.get("imageData") or "", validate=True)
            except (binascii.Error, TypeError):
                picture = b""
        name = image_name(path.relative_to(base).as_posix())
        if not picture:
            skipped.add(f"labelme file whose image ({named or 'no name'}) is not there", path.name)
            continue
        height, width = content.get("imageHeight"), content.get("imageWidth")
        if isinstance(picture, Path):
            height, width = picture_size(picture)
        if not isinstance(height, int) or not isinstance(width, int):
            skipped.add("labelme file without imageHeight and imageWidth", path.name)
            continue
        mask, drawn = np.zeros((height, width), np.uint8), False
        for i, shape in enumerate(content["shapes"]):
            inside = labelme_shape(path, shape, height, width)
            if inside is None:
                skipped.add(f"shape without area ({shape.get('shape_type') or 'polygon'})", f"{path.name}[{i}]")
            elif str(shape.get("label")) in number:
                mask[inside] = number[str(shape.get("label"))]
                drawn = True
        yield Labelled(name, picture, PurePosixPath(named).suffix or ".png", mask if drawn else None)


def labelme_shape(path: Path, shape: Mapping[str, Any], height: int, width: int) -> Array | None:
    """(height, width) bool of one shape; None of one without area, e.g. a line or a point."""
    kind = shape.get("shape_type") or "polygon"
    try:
        points = np.asarray(shape.get("points") or [], np.float64).reshape(-1, 2)
    except (ValueError, TypeError):
        return None
    if kind == "polygon" and len(points) >= 3 and np.isfinite(points).all():
        return instance({"segmentation": [points.ravel().tolist()]}, height, width, "full")
    if len(points) != 2 or not np.isfinite(points).all():
        return None
    return two_point_shape(path, kind, shape.get("mask"), points, height, width)


def two_point_shape(path: Path, kind: str, mask: Any, points: Array, height: int, width: int) -> Array | None:
    """(height, width) bool of a rectangle, a circle (its centre and a point on it) or a mask within a rectangle."""
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    if kind == "rectangle":
        box = [left, top, right, top, right, bottom, left, bottom]
        return instance({"segmentation": [box]}, height, width, "full")
    if kind == "circle":
        rows, columns = np.mgrid[:height, :width] + 0.5
        return np.hypot(columns - points[0, 0], rows - points[0, 1]) <= np.hypot(*(points[1] - points[0]))
    if kind == "mask" and isinstance(mask, str):
        inside = np.zeros((height, width), bool)
        part = decode_mask(path, base64.b64decode(mask))
        room = inside[max(0, round(top)) :, max(0, round(left)) :][: part.shape[0], : part.shape[1]]
        room[:] = part[: room.shape[0], : room.shape[1]]
        return inside
    return None
