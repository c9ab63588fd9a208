"""Marks on images for viewing: masks in the colours of their classes, outlines, legends and counts."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from datamodules.files.sources import Array
from qgnet.outputs import CLASS_COLOURS

LONGEST_NAME = 30
"""Letters of a class's name in a legend."""
PADDING = 4
"""Pixels around words in a legend."""
LEAST_FONT = 12
FONT_SHARE = 45
"""The font on an image is this part of its longer side."""


class Entry(NamedTuple):
    """An entry of a legend: the number of a class, from 1, and its text."""

    number: int
    text: str


def colour_of(number: int) -> tuple[int, int, int]:
    """RGB of the n-th class, from 1."""
    return CLASS_COLOURS[(number - 1) % len(CLASS_COLOURS)]


def draw_masks(image: Array, mask: NDArray[np.uint8], objects: NDArray[np.int32] | None = None) -> Array:
    """The image (H, W, 3) with each class half transparent and outlined, and the outlines of single objects if given.

    Args:
        image: RGB.
        mask: class numbers, 0 background.
        objects: (H, W), 0 for none, n for the n-th single object.
    """
    blended, line = image.copy(), max(1, max(mask.shape) // 400)
    for number in np.unique(mask[mask > 0]).tolist():
        inside = (mask == number).astype(np.uint8)
        blended[inside == 1] = (0.5 * blended[inside == 1] + 0.5 * np.array(colour_of(number))).astype(np.uint8)
        outline(blended, inside, colour_of(number), line)
    for inside, box in single(objects) if objects is not None else ():
        colour = colour_of(int(mask[box][inside == 1][0]))
        outline(blended, inside, colour, line, (box[1].start, box[0].start))
    return blended


def single(objects: NDArray[np.int32]) -> Iterator[tuple[NDArray[np.uint8], tuple[slice, slice]]]:
    """Each object of (H, W) as a mask (h, w) in {0, 1}, and its box: rows and columns."""
    from scipy import ndimage  # noqa: PLC0415 (quick to start without)

    boxes = enumerate(ndimage.find_objects(objects), start=1)
    yield from (((objects[box] == number).astype(np.uint8), box) for number, box in boxes if box is not None)


def outline(
    image: Array, inside: NDArray[np.uint8], colour: tuple[int, int, int], line: int, at: tuple[int, int] = (0, 0)
) -> None:
    """Draw the outline of a mask (h, w) in {0, 1} on an image; its upper left corner is at (x, y)."""
    outlines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(image, outlines, -1, colour, line, offset=at)


def plain(name: str) -> str:
    """A class name for a legend: one line, shortened if it is long."""
    words = " ".join(name.split())
    return words if len(words) <= LONGEST_NAME else f"{words[: LONGEST_NAME - 1]}…"


def legend(entries: Sequence[Entry], size: int, width: int) -> Image.Image:
    """A legend on white: entries side by side, wrapped at a width in pixels, in a font size."""
    font, height = ImageFont.load_default(size), size + 2 * PADDING
    places, x, y, widest = [], 0, 0, 0
    for entry in entries:
        needed = round(size + font.getlength(entry.text)) + 4 * PADDING
        if x and x + needed > width:
            x, y = 0, y + height
        places.append((x, y))
        x += needed
        widest = max(widest, x)
    drawn = Image.new("RGB", (max(1, widest), y + height), "white")
    draw = ImageDraw.Draw(drawn)
    for (left, top), entry in zip(places, entries, strict=True):
        square = (left + PADDING, top + PADDING, left + PADDING + size - 1, top + PADDING + size - 1)
        draw.rectangle(square, colour_of(entry.number), "black")
        draw.text((left + size + 2 * PADDING, top + PADDING - 1), entry.text, "black", font)
    return drawn


def draw_legend(image: Array, entries: Sequence[Entry]) -> Array:
    """The image with a legend in its upper left corner, one entry per line; without it if it does not fit."""
    if not entries:
        return image
    drawn = legend(entries, max(LEAST_FONT, max(image.shape) // FONT_SHARE), 1)
    if drawn.width > image.shape[1] or drawn.height > image.shape[0]:
        return image
    marked = image.copy()
    marked[: drawn.height, : drawn.width] = np.asarray(drawn)
    return marked


def draw_counts(image: Array, counts: Sequence[Entry]) -> Array:
    """The image with the counts in its lower left corner, each on the colour of its class, as many as fit."""
    marked = Image.fromarray(image)
    draw, font, left = ImageDraw.Draw(marked), ImageFont.load_default(LEAST_FONT), 0
    for entry in counts:
        right, top = left + round(font.getlength(entry.text)) + 2 * PADDING, marked.height - LEAST_FONT - PADDING
        if right > marked.width or top < 0:
            break
        draw.rectangle((left, top, right - 1, marked.height - 1), "white", colour_of(entry.number))
        draw.text((left + PADDING, top + 1), entry.text, "black", font)
        left = right
    return np.asarray(marked)
