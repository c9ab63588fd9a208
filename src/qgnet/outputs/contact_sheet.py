"""The contact sheet: the least certain images, with a legend."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as coco_masks

from datamodules.episodes.transforms import letterbox_size
from datamodules.files.images import decode_image
from datamodules.files.pixels import read_bytes
from datamodules.files.sources import Array
from datamodules.files.writing import atomic_write
from qgnet.common.errors import InputError
from qgnet.outputs.file_names import SHEET
from qgnet.outputs.marking import Entry, draw_counts, draw_masks, legend, plain
from qgnet.outputs.records import OBJECTS, Record, decoded, has_objects

SHOWN = 96
"""Images on a contact sheet."""
ACROSS = 6
CELL = 180
CAPTION = 18
GAP = 6
GREY = 128
FONT = 12


def write_contact_sheet(out: Path, records: Mapping[str, Record], classes: Sequence[str]) -> None:
    """Write ``contact_sheet.jpg``: a legend of the classes, then images, least certain first and empty ones last."""

    def order(name: str) -> tuple[bool, float]:
        segments = records[name]["segments"]
        empty = all(segment["empty"] for segment in segments)
        return empty, max(segment["score"] for segment in segments) * (-1 if empty else 1)

    names = sorted(records, key=order)[:SHOWN]
    rows, width = -(-len(names) // ACROSS), ACROSS * (CELL + GAP) + GAP
    colours = legend([Entry(number, plain(name)) for number, name in enumerate(classes, start=1)], FONT, width)
    head = colours.height + GAP
    sheet = Image.new("RGB", (width, head + rows * (CELL + CAPTION + GAP) + GAP), "white")
    sheet.paste(colours, (0, GAP))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT)
    for i, name in enumerate(names):
        left, top = GAP + i % ACROSS * (CELL + GAP), head + GAP + i // ACROSS * (CELL + CAPTION + GAP)
        score = max(segment["score"] for segment in records[name]["segments"])
        sheet.paste(Image.fromarray(thumbnail(records[name])), (left, top + CAPTION))
        draw.text((left, top), f"{score:.2f}  {name[-20:]}", "black", font)
    with atomic_write(out / SHEET) as part:
        sheet.save(part, format="JPEG", quality=88)


def thumbnail(record: Record) -> Array:
    """A thumbnail of an image with its masks, and with numbered single objects if the record has them."""
    image = as_segmented(record)
    size = letterbox_size(image.shape[0], image.shape[1], CELL)[::-1]
    mask = np.zeros(image.shape[:2], np.uint8)
    for number, segment in enumerate(record["segments"], start=1):
        mask[decoded(record, segment["counts"]) == 1] = number
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    labels = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST).astype(np.uint8, copy=False)
    if not has_objects(record):
        return draw_masks(small, labels)
    objects = cv2.resize(objects_in(record).astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    found = [(number, len(segment[OBJECTS])) for number, segment in enumerate(record["segments"], start=1)]
    counts = [Entry(number, f"{count}") for number, count in found if count]
    return draw_counts(draw_masks(small, labels, objects.astype(np.int32)), counts)


def objects_in(record: Record) -> NDArray[np.int32]:
    """The single objects of a record, (H, W): 0 for none, n for the n-th."""
    objects = np.zeros(record["size"], np.int32)
    found = (counts for segment in record["segments"] for counts in segment[OBJECTS])
    for number, counts in enumerate(found, start=1):
        left, top, width, height = map(int, coco_masks.toBbox({"size": record["size"], "counts": counts}))
        box = np.s_[top : top + height, left : left + width]
        objects[box][decoded(record, counts)[box] == 1] = number
    return objects


def as_segmented(record: Record) -> Array:
    """The image of a record; a grey one of its size if the file is missing or has changed since."""
    try:
        image = decode_image(Path(record["file"]), read_bytes(Path(record["file"])))
    except InputError:
        image = np.empty((0, 0, 3), np.uint8)
    height, width = record["size"]
    return image if image.shape[:2] == (height, width) else np.full((height, width, 3), GREY, np.uint8)
