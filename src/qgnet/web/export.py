"""Everything that was found and painted, as one ZIP."""

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
    """Write ``masks.zip`` into an empty folder and return it. Nothing in it tells where the folder of the images lies.

    With ``instances`` single objects are told apart in it.

    Raises:
        InputError: if there is nothing to write, or a mask that was painted or found is broken, with the image's name.
    """
    out = to / "masks"
    out.mkdir()
    names = session.names  # of this moment: they may be changed while this goes on
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
    """A file's name in a ZIP, which must be text: bytes that are none stand there as ``_`` and their two digits."""
    return re.sub("[\udc80-\udcff]", lambda byte: f"_{ord(byte[0]) - 0xDC00:02x}", name)


def result_of(session: Session, image: FolderImage, names: Mapping[int, str], presence: float) -> Result | None:
    """An image's painted mask, or what was found at today's thresholds; None if nothing. It has all classes by name.

    Of an image with rough strokes it is what was found.

    Raises:
        InputError: if the image's mask, or what was found in it, is gone or broken.
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
    """(H, W) of a class that was looked for; InputError with the image's name if it is gone or broken."""
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
    """All classes, named, of (H, W) probabilities by class number; None if there are none.

    A class without probabilities was not looked for: it is nowhere, with score 0. Without a threshold it is 0.5.
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
