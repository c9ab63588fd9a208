"""COCO's instances drawn as index masks."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.mask import decode, frPyObjects, merge
from tqdm import tqdm

from datamodules.files.png import write_plain_png
from datamodules.files.sources import IGNORE, Array
from datamodules.files.writing import atomic_write
from qgnet.common.choices import Crowds, Parts
from qgnet.common.errors import InputError
from qgnet.common.pool import processes


def draw_masks(annotations: Path, masks: Path, split: str, parts: Parts, crowds: Crowds) -> None:
    """Draw the index mask of every annotated image, in parallel; masks already there are not drawn again.

    Writes ``masks/<split>/<image>.png`` and, when all are there, the list ``masks/<split>.txt``.

    Raises:
        InputError: if the annotation file is missing or not COCO's.
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
    if missing:
        draw = partial(write_mask, class_of=class_of, parts=parts, crowds=crowds)
        with processes() as pool:
            done = pool.map(draw, *zip(*missing, strict=True), chunksize=32)
            list(tqdm(done, f"Drawing the masks of {split}", len(missing), unit="mask"))
    with atomic_write(masks / f"{split}.txt") as part:
        part.write_text("".join(f"{name}\n" for name in names))


def write_mask(
    image: dict[str, Any],
    annotations: Sequence[dict[str, Any]],
    path: Path,
    class_of: dict[int, int],
    parts: Parts,
    crowds: Crowds,
) -> None:
    """Draw one image's mask to ``path``, which appears by rename."""
    mask = draw_mask(image["height"], image["width"], annotations, class_of, parts, crowds)
    write_plain_png(path, mask)


def draw_mask(
    height: int,
    width: int,
    annotations: Sequence[dict[str, Any]],
    class_of: dict[int, int],
    parts: Parts = "full",
    crowds: Crowds = "ignore",
) -> Array:
    """Instances → (height, width) uint8 class numbers; later instances lie over earlier ones, all over crowds.

    Args:
        height: of the image.
        width: of the image.
        annotations: COCO's, in the file's order.
        class_of: category id → class number.
        parts: all polygons of an instance, or the first only.
        crowds: 255 where a crowd is and no instance, or background.
    """
    mask = np.zeros((height, width), np.uint8)
    for annotation in sorted(annotations, key=lambda a: -a.get("iscrowd", 0)):
        crowd = bool(annotation.get("iscrowd", 0))
        if crowd and crowds == "background":
            continue
        mask[instance(annotation, height, width, parts)] = IGNORE if crowd else class_of[annotation["category_id"]]
    return mask


def instance(annotation: dict[str, Any], height: int, width: int, parts: Parts) -> Array:
    """(height, width) bool: one instance."""
    shape = annotation["segmentation"]
    if isinstance(shape, list):
        shape = merge(frPyObjects(shape if parts == "full" else shape[:1], height, width))
    elif isinstance(shape["counts"], list):
        shape = frPyObjects(shape, height, width)
    return decode(shape).astype(bool)
