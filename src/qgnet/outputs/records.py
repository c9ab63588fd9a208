"""A record of each image, by which a run is resumed and from which tables of all images are made."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as coco_masks

from datamodules.episodes.transforms import letterbox_size
from datamodules.files.images import decode_image, stamp
from datamodules.files.pixels import read_bytes
from datamodules.files.sources import Array
from datamodules.files.writing import atomic_write
from qgnet.common.errors import InputError
from qgnet.outputs.file_names import ANNOTATIONS, FOLDER, SHEET, TABLE, record_file
from qgnet.outputs.formats import draw_masks, write_text
from qgnet.outputs.polygons import polygons
from qgnet.outputs.segments import Result

Record = dict[str, Any]
COLUMNS = ("image", "class", "score", "area", "empty")
SHOWN = 96
"""Images on a contact sheet."""
ACROSS = 6
CELL = 180
CAPTION = 18
GAP = 6
GREY = 128


def record_of(path: Path, result: Result, run: str) -> Record:
    """Of an image that was segmented in a run of this fingerprint."""
    segments = []
    for segment in result.segments.values():
        runs = coco_masks.encode(np.asfortranarray(segment.mask))
        score, empty = round(segment.score, 4), segment.empty
        counts = runs["counts"].decode()
        segments.append({"class": segment.name, "score": score, "area": segment.area, "empty": empty, "counts": counts})
    height, width = result.mask.shape
    return {"run": run, "file": str(path), "size": [height, width], "segments": segments}


def error_record(path: Path, error: str, run: str) -> Record:
    """Of an image that cannot be read."""
    return {"run": run, "file": str(path), "error": error}


def write_record(out: Path, name: str, record: Record) -> None:
    """Write an image's record, after all its other files."""
    write_text(out / record_file(name), json.dumps({"sha256": digest(record), "record": record}))


def read_record(out: Path, name: str) -> Record | None:
    """An image's record; None if there is none, or not as `write_record` wrote it: then the image is done again."""
    try:
        content = json.loads((out / record_file(name)).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or "record" not in content:
        return None
    record: Record = content["record"]
    return record if content.get("sha256") == digest(record) else None


def digest(record: Record) -> str:
    """Of a record's content."""
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()


def is_current(record: Record, path: Path, run: str) -> bool:
    """Whether a record says what a run of this fingerprint would say of the image as it is now."""
    return bool(record["run"] == run and os.path.exists(path) and record.get("stamp") == stamp(path))


def is_complete(file: Path) -> bool:
    """Whether there is such a file; one that has no bytes was lost."""
    return file.is_file() and file.stat().st_size > 0


def write_csv(out: Path, records: Mapping[str, Record]) -> None:
    """``segments.csv``: a line per image and class."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for record in records.values():
        writer.writerows({"image": record["file"], **segment} for segment in record["segments"])
    write_text(out / TABLE, text.getvalue())


def write_coco(out: Path, records: Mapping[str, Record], classes: Sequence[str], as_polygons: bool) -> None:
    """``annotations.json``: COCO's format, masks as compressed run lengths or as polygons."""
    images: list[Record] = []
    annotations: list[Record] = []
    for number, (name, record) in enumerate(records.items(), start=1):
        height, width = record["size"]
        file = Path(record["file"])
        file_name = name if Path(name).name == file.name else name + file.suffix  # equal names keep their endings
        images.append({"id": number, "file_name": file_name, "height": height, "width": width})
        for segment in record["segments"]:
            if segment["empty"]:
                continue
            runs = {"size": record["size"], "counts": segment["counts"]}
            shape = [p.ravel().tolist() for p in polygons(coco_masks.decode(runs))] if as_polygons else runs
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": classes.index(segment["class"]) + 1,
                    "segmentation": shape,
                    "area": segment["area"],
                    "bbox": coco_masks.toBbox(runs).tolist(),
                    "iscrowd": 0,
                    "score": segment["score"],
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_text(out / ANNOTATIONS, json.dumps(content))


def write_contact_sheet(out: Path, records: Mapping[str, Record]) -> None:
    """``contact_sheet.jpg``: those with something found, the least sure first, then the empty ones."""

    def order(name: str) -> tuple[bool, float]:
        segments = records[name]["segments"]
        empty = all(segment["empty"] for segment in segments)
        return empty, max(segment["score"] for segment in segments) * (-1 if empty else 1)

    names = sorted(records, key=order)[:SHOWN]
    rows = -(-len(names) // ACROSS)
    sheet = Image.new("RGB", (ACROSS * (CELL + GAP) + GAP, rows * (CELL + CAPTION + GAP) + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for i, name in enumerate(names):
        left, top = GAP + i % ACROSS * (CELL + GAP), GAP + i // ACROSS * (CELL + CAPTION + GAP)
        score = max(segment["score"] for segment in records[name]["segments"])
        sheet.paste(Image.fromarray(thumbnail(records[name])), (left, top + CAPTION))
        draw.text((left, top), f"{score:.2f}  {name[-20:]}", "black", font)
    with atomic_write(out / SHEET) as part:
        sheet.save(part, format="JPEG", quality=88)


def thumbnail(record: Record) -> Array:
    """A small image of an image with its masks."""
    image = as_segmented(record)
    height, width = letterbox_size(image.shape[0], image.shape[1], CELL)
    mask = np.zeros(image.shape[:2], np.uint8)
    for number, segment in enumerate(record["segments"], start=1):
        mask[decoded(record, segment) == 1] = number
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    labels = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
    return draw_masks(small, labels.astype(np.uint8, copy=False))


def as_segmented(record: Record) -> Array:
    """The image of a record; grey of its size if it was taken away, or exchanged for another, since."""
    try:
        image = decode_image(Path(record["file"]), read_bytes(Path(record["file"])))
    except InputError:
        image = np.empty((0, 0, 3), np.uint8)
    height, width = record["size"]
    return image if image.shape[:2] == (height, width) else np.full((height, width, 3), GREY, np.uint8)


def decoded(record: Record, segment: Record) -> NDArray[np.uint8]:
    """(H, W) in {0, 1} of a record's segment."""
    mask: NDArray[np.uint8] = coco_masks.decode({"size": record["size"], "counts": segment["counts"]})
    return mask


def check_writable(out: Path) -> None:
    """Make the output folder; InputError if that cannot be done."""
    try:
        (out / FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out} cannot be made ({error.strerror}). Choose another folder.") from None
