"""The download: all results and painted masks as one ZIP."""

import re
import zipfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datamodules.files.image_paths import find_images
from qgnet.common.errors import InputError
from qgnet.outputs.formats import write_labelme, writers
from qgnet.outputs.records import record_of, write_coco, write_csv
from qgnet.outputs.segments import Result, Segment, furthest_above
from qgnet.web.images import FolderImage, ImageFolder
from qgnet.web.session import Session


def write_zip(
    session: Session, images: ImageFolder, presence: float, formats: Sequence[str], to: Path, instances: bool = False
) -> Path:
    """Write ``masks.zip`` into an empty folder and return its path. It does not contain the path of the image folder.

    With ``instances``, the files separate single objects.

    Raises:
        InputError: if there is nothing to write, or a painted mask or a result is broken; it names the image.
    """
    out = to / "masks"
    out.mkdir()
    names = session.names  # a copy: the user may change them meanwhile
    keys = {image.path: image for image in images.find()}
    records = {}
    for name, path in find_images([str(images.folder)], out).items():
        result = result_of(session, keys[path], names, presence) if path in keys else None
        if result is None:
            continue
        records[name] = record_of(path, result, "", instances) | {"file": path.relative_to(images.folder).as_posix()}
        labelme = partial(write_labelme, image_path=path.name, instances=instances)
        chosen = writers(instances) | {"labelme": labelme}
        for write in (chosen[one] for one in formats if one in chosen):
            write(out, name, path, result)
    if not records:
        raise InputError("There is nothing to download yet. Paint an object and press Segment first.")
    write_csv(out, records)
    (out / "classes.txt").write_text("".join(f"{name}\n" for name in names.values()), encoding="utf-8")
    if "coco" in formats:
        write_coco(out, records, list(names.values()), as_polygons=False)
    archive = to / "masks.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(out.rglob("*")):
            file.write(path, as_text(path.relative_to(out).as_posix()))
    return archive


def as_text(name: str) -> str:
    """A file name as text, as a ZIP needs it: a byte that is not text becomes ``_`` and its two hexadecimal digits."""
    return re.sub("[\udc80-\udcff]", lambda byte: f"_{ord(byte[0]) - 0xDC00:02x}", name)


def result_of(session: Session, image: FolderImage, names: Mapping[int, str], presence: float) -> Result | None:
    """The painted mask of an image, else its result at the current thresholds; None without both. It has all classes.

    An image with rough strokes gives its result.

    Raises:
        InputError: if the mask or the result of the image is missing or broken.
    """
    if image.key in session.state.painted and not session.is_rough(image.key):
        mask = session.mask(image)
        return as_result(names, {n: (mask == n).astype(np.float32) for n in names}, {}, dict.fromkeys(names, 1.0), 0)
    outcome = session.outcome(image)
    if outcome is None:
        return None
    found = {n: probability_of(session, image, n) for n in outcome.scores if n in names}
    return as_result(names, found, outcome.thresholds | session.state.settings.thresholds, outcome.scores, presence)


def probability_of(session: Session, image: FolderImage, number: int) -> NDArray[np.float32]:
    """The probability of a class, (H, W) in [0, 1]; InputError with the image's name if it is missing or broken."""
    file = session.result_file(image, number)
    try:
        if file is None:
            raise FileNotFoundError(2, "it is gone")
        with Image.open(file, formats=["PNG"]) as png:
            return np.asarray(png).astype(np.float32) / np.float32(255)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(
            f"What was found in {session.title(image)} cannot be read ({error}). Press Segment again."
        ) from None


def as_result(
    names: Mapping[int, str],
    found: Mapping[int, NDArray[np.float32]],
    thresholds: Mapping[int, float],
    scores: Mapping[int, float],
    presence: float,
) -> Result | None:
    """The result for all classes from (H, W) probabilities by class number; None without probabilities.

    A class without probabilities was not searched for: its mask is empty and its score 0. The default threshold is 0.5.
    """
    if not found:
        return None
    nowhere = np.zeros_like(next(iter(found.values())))
    probabilities = [found.get(n, nowhere) for n in names]
    there = [n in found and scores[n] >= presence for n in names]
    winner = furthest_above(probabilities, [thresholds.get(n, 0.5) for n in names], there)
    segments = {}
    for i, (number, name) in enumerate(names.items()):
        mask, probability = (winner == i).astype(np.uint8), probabilities[i]
        segments[name] = Segment(name, mask, probability, scores.get(number, 0.0), {})
    return Result(segments)
