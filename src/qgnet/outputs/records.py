"""A record of each image. Runs resume from records, and tables of all images are made from them."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_masks

from datamodules.files.images import stamp
from qgnet.common.errors import InputError
from qgnet.outputs.file_names import ANNOTATIONS, FOLDER, TABLE, record_file
from qgnet.outputs.formats import objects_of, write_text
from qgnet.outputs.polygons import polygons
from qgnet.outputs.segments import Result, Segment

Record = dict[str, Any]
COLUMNS = ("image", "class", "score", "area", "empty")
OBJECTS = "objects"
"""Key of the run lengths of single objects in a segment of a record, and name of the column with their number."""


def record_of(path: Path, result: Result, run: str, instances: bool = False) -> Record:
    """The record of a segmented image; ``run`` is the run's fingerprint, ``instances`` adds single objects."""
    segments = []
    for segment in result.segments.values():
        of_class = {"class": segment.name, "score": round(segment.score, 4), "area": segment.area}
        segments.append({**of_class, "empty": segment.empty, "counts": run_lengths(segment.mask)})
    height, width = result.mask.shape
    record = {"run": run, "file": str(path), "size": [height, width], "segments": segments}
    return with_objects(record, result) if instances else record


def with_objects(record: Record, result: Result) -> Record:
    """A record with single objects."""
    found = [[run_lengths(mask) for _, mask in objects_of(segment)] for segment in result.segments.values()]
    segments = [segment | {OBJECTS: each} for segment, each in zip(record["segments"], found, strict=True)]
    return record | {"segments": segments}


def without_objects(record: Record) -> Record:
    """A record without single objects."""
    segments = [{key: value for key, value in one.items() if key != OBJECTS} for one in record["segments"]]
    return record | {"segments": segments}


def has_objects(record: Record) -> bool:
    """Whether a record holds single objects."""
    return any(OBJECTS in segment for segment in record["segments"])


def result_of(record: Record) -> Result:
    """The result of a record: its masks; probabilities are 0 and 1."""
    masks = {segment["class"]: (decoded(record, segment["counts"]), segment["score"]) for segment in record["segments"]}
    return Result(
        {name: Segment(name, mask, mask.astype(np.float32), score, {}) for name, (mask, score) in masks.items()}
    )


def run_lengths(mask: NDArray[np.uint8]) -> str:
    """COCO's run lengths of a mask (H, W) in {0, 1}."""
    counts: str = coco_masks.encode(np.asfortranarray(mask))["counts"].decode()
    return counts


def error_record(path: Path, error: str, run: str) -> Record:
    """The record of an image that cannot be read."""
    return {"run": run, "file": str(path), "error": error}


def write_record(out: Path, name: str, record: Record) -> None:
    """Write an image's record, after all its other files."""
    write_text(out / record_file(name), json.dumps({"sha256": digest(record), "record": record}))


def read_record(out: Path, name: str) -> Record | None:
    """An image's record; None if it is missing or damaged: the image is then segmented again."""
    try:
        content = json.loads((out / record_file(name)).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or "record" not in content:
        return None
    record: Record = content["record"]
    return record if content.get("sha256") == digest(record) else None


def digest(record: Record) -> str:
    """SHA-256 of a record's content."""
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()


def is_current(record: Record, path: Path, run: str) -> bool:
    """Whether a run of this fingerprint would give the same result for the present image."""
    return bool(record["run"] == run and os.path.exists(path) and record.get("stamp") == stamp(path))


def is_complete(file: Path) -> bool:
    """Whether a file exists and is not empty."""
    return file.is_file() and file.stat().st_size > 0


def write_csv(out: Path, records: Mapping[str, Record]) -> None:
    """Write ``segments.csv``: a line per image and class; the number of single objects, if any, is the last column."""
    text = io.StringIO(newline="")
    counted = [OBJECTS] if any(map(has_objects, records.values())) else []
    writer = csv.DictWriter(text, [*COLUMNS, *counted], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for record in records.values():
        for segment in record["segments"]:
            writer.writerow({"image": record["file"], **segment, OBJECTS: len(segment.get(OBJECTS, ()))})
    write_text(out / TABLE, text.getvalue())


def write_coco(out: Path, records: Mapping[str, Record], classes: Sequence[str], as_polygons: bool) -> None:
    """Write ``annotations.json`` in COCO's format, with masks as compressed run lengths or polygons.

    An annotation is a class in an image, or a single object if the record holds them.
    """
    images: list[Record] = []
    annotations: list[Record] = []
    for number, (name, record) in enumerate(records.items(), start=1):
        height, width = record["size"]
        file = Path(record["file"])
        file_name = name if Path(name).name == file.name else name + file.suffix  # equal names keep their endings
        images.append({"id": number, "file_name": file_name, "height": height, "width": width})
        for segment, counts in annotated(record):
            runs = {"size": record["size"], "counts": counts}
            shape = [p.ravel().tolist() for p in polygons(coco_masks.decode(runs))] if as_polygons else runs
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": classes.index(segment["class"]) + 1,
                    "segmentation": shape,
                    "area": int(coco_masks.area(runs)),
                    "bbox": coco_masks.toBbox(runs).tolist(),
                    "iscrowd": 0,
                    "score": segment["score"],
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_text(out / ANNOTATIONS, json.dumps(content))


def annotated(record: Record) -> Iterator[tuple[Record, str]]:
    """The segment and the run lengths of each COCO annotation."""
    for segment in record["segments"]:
        parts = [] if segment["empty"] else segment.get(OBJECTS, [segment["counts"]])
        yield from ((segment, counts) for counts in parts)


def decoded(record: Record, counts: str) -> NDArray[np.uint8]:
    """The mask (H, W) in {0, 1} of run lengths in a record."""
    mask: NDArray[np.uint8] = coco_masks.decode({"size": record["size"], "counts": counts})
    return mask


def check_writable(out: Path) -> None:
    """Create the output folder; InputError if it cannot be created."""
    try:
        (out / FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out} cannot be made ({error.strerror}). Choose another folder.") from None
