"""Draw COCO's instances as index masks."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from datamodules.files.png import write_plain_png
from datamodules.files.sources import IGNORE, Array
from datamodules.files.writing import atomic_write
from datamodules.prepare.annotations import Skipped
from datamodules.prepare.choices import Crowds, Parts
from datamodules.prepare.shapes import TOO_FEW, ShapeError, draw_polygons, draw_runs, polygon_fault
from qgnet.common.errors import InputError
from qgnet.common.pool import processes
from qgnet.common.progress import progress


def draw_masks(annotations: Path, masks: Path, split: str, parts: Parts, crowds: Crowds) -> Skipped:
    """Write ``masks/<split>/<image>.png`` of every annotated image, in parallel, then the list ``masks/<split>.txt``.

    Existing masks are kept. Returns the annotations that cannot be drawn.
    """
    try:
        coco = COCO(annotations)
        class_of = {category: i for i, category in enumerate(sorted(coco.getCatIds()), start=1)}
        images = coco.loadImgs(sorted(coco.imgToAnns))
    except FileNotFoundError:
        raise InputError(f"{annotations} does not exist; expected COCO's instances file.") from None
    except (json.JSONDecodeError, KeyError, AssertionError, UnicodeDecodeError) as error:
        raise InputError(
            f"{annotations} is no COCO instances file ({type(error).__name__}: {error}). Fetch it again."
        ) from None
    folder = masks / split
    folder.mkdir(parents=True, exist_ok=True)
    names = [Path(image["file_name"]).stem for image in images]
    missing = [
        (image, coco.imgToAnns[image["id"]], folder / f"{name}.png")
        for image, name in zip(images, names, strict=True)
        if not (folder / f"{name}.png").exists()
    ]
    skipped = Skipped()
    if missing:
        draw = partial(write_mask, class_of=class_of, parts=parts, crowds=crowds)
        with processes() as pool:
            done = pool.map(draw, *zip(*missing, strict=True), chunksize=32)
            for of_one in progress(done, f"Drawing the masks of {split}", len(missing), unit="mask"):
                skipped.join(of_one)
    with atomic_write(masks / f"{split}.txt") as part:
        part.write_text("".join(f"{name}\n" for name in names))
    return skipped


def write_mask(
    image: dict[str, Any],
    annotations: Sequence[dict[str, Any]],
    path: Path,
    class_of: dict[int, int],
    parts: Parts,
    crowds: Crowds,
) -> Skipped:
    """Draw the mask of one image and write it atomically to ``path``; return the annotations that cannot be drawn."""
    skipped = Skipped()
    mask = draw_mask(image["height"], image["width"], annotations, class_of, skipped, parts, crowds)
    write_plain_png(path, mask)
    return skipped


def draw_mask(
    height: int,
    width: int,
    annotations: Sequence[dict[str, Any]],
    class_of: Mapping[Any, int],
    skipped: Skipped,
    parts: Parts = "full",
    crowds: Crowds = "ignore",
) -> Array:
    """COCO's annotations → (height, width) uint8 class numbers.

    Later instances are drawn over earlier ones, and all over crowds. ``class_of`` maps category ids to class numbers;
    ``skipped`` gets the annotations that cannot be drawn.
    """
    mask = np.zeros((height, width), np.uint8)
    for annotation in sorted(annotations, key=lambda a: not a.get("iscrowd")):
        crowd = bool(annotation.get("iscrowd"))
        if crowd and crowds == "background":
            continue
        try:
            inside = instance(annotation, height, width, parts, skipped)
        except ShapeError as reason:
            skipped.add(f"annotation {reason}", annotation.get("id"))
        else:
            mask[inside] = IGNORE if crowd else class_of[annotation["category_id"]]
    return mask


def instance(annotation: Mapping[str, Any], height: int, width: int, parts: Parts, skipped: Skipped) -> Array:
    """The mask of one instance, (height, width) bool, or a ShapeError; invalid polygons are added to ``skipped``."""
    shape = annotation.get("segmentation")
    if isinstance(shape, dict) and "counts" in shape:
        return draw_runs(shape, height, width)
    if not isinstance(shape, list):
        raise ShapeError("without segmentation")
    faults = [polygon_fault(polygon, height, width) for polygon in shape]
    good = [polygon for polygon, fault in zip(shape, faults, strict=True) if not fault]
    if not good:
        fault = next((fault for fault in faults if fault != TOO_FEW), "")
        raise ShapeError(f"with a polygon {fault}" if fault else "without a polygon of three points")
    for fault in filter(None, faults):
        skipped.add(f"polygon {fault} besides others of its annotation", annotation.get("id"))
    return draw_polygons(good if parts == "full" else good[:1], height, width)
