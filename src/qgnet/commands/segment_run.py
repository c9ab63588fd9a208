"""The work of ``qgnet segment``: images through a Segmenter, and what is written of them."""

import argparse
import hashlib
import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl

from datamodules.datasets.folder import LabelledFolder
from datamodules.files.finding import IMAGES, MASKS
from datamodules.files.sources import Array
from datamodules.files.writing import remove_parts
from datamodules.input_images import InputImagesDataModule
from datamodules.prepare.choices import LAYOUT
from qgnet.callbacks.log_progress import progress_bar
from qgnet.callbacks.segments import SegmentWriter
from qgnet.common.errors import InputError, some
from qgnet.common.locks import claim
from qgnet.common.terminal import printable, quiet, say
from qgnet.inference.segmenter import Segmenter
from qgnet.inference.supports import read_supports
from qgnet.inference.task import ImageSegmentation
from qgnet.outputs.contact_sheet import write_contact_sheet
from qgnet.outputs.file_names import ANNOTATIONS, LOCK, SHEET, TABLE, check_distinct, is_too_long, longest_name
from qgnet.outputs.folder import ASIDE, OutputFolder, move_aside
from qgnet.outputs.records import Record, check_writable, read_record, write_coco, write_csv
from qgnet.runs.trainer import checked_trainer

Supports = dict[str, list[tuple[Array, Array]]]


def segment(options: argparse.Namespace, files: dict[str, Path], model: dict[str, Any]) -> None:
    """Segment and write.

    Args:
        options: of the command.
        files: name → image.
        model: which network, as a Segmenter takes it.

    Raises:
        InputError: for anything that cannot be used, before the work starts.
    """
    quiet()
    supports = load_supports(options)
    settings = {name: getattr(options, name) for name in ("bf16", "tile", "threshold", "presence", "refine")}
    segmenter = Segmenter(**model, **settings, device="cpu")  # until Lightning moves it
    trainer = make_trainer(options)
    check_writable(options.out)
    with claimed(options.out) if trainer.is_global_zero else nullcontext():
        segment_folder(options, files, supports, segmenter, trainer)


@contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Keep other runs away from the output folder; InputError if one works in it."""
    busy = f"Another `qgnet segment` (process {{process}}) writes to {out}. Wait for its end, or choose another --out."
    with claim(out / LOCK, busy):
        remove_parts(out)
        yield


def segment_folder(
    options: argparse.Namespace, files: dict[str, Path], supports: Supports, segmenter: Segmenter, trainer: pl.Trainer
) -> None:
    """Segment and write, in a folder that is this run's alone; the parts of :func:`segment`."""
    out, longest = options.out, longest_name(options.out)
    images = {name: path for name, path in files.items() if not is_too_long(name, longest)}
    check_distinct(out, images, options.format, tuple(supports))
    segmenter.fit(supports)
    fingerprint = fingerprint_of(segmenter, supports)
    folder = OutputFolder(out, images, options.format, tuple(segmenter.classes), fingerprint, options.instances)
    pending = folder.pending()
    if trainer.is_global_zero:
        report_fit(segmenter, len(images), len(pending))
    if pending:
        machine = (options.batch_size, options.workers)
        data = InputImagesDataModule(
            pending, segmenter.sides, options.tile, *machine, guide_side=segmenter.refiners.guide_side
        )
        trainer.callbacks.append(SegmentWriter(folder))  # type: ignore[attr-defined]
        trainer.predict(ImageSegmentation(segmenter), data, return_predictions=False)
        trainer.strategy.barrier()
    if trainer.is_global_zero:
        finish(options, folder, pending, [path for name, path in files.items() if name not in images])


def load_supports(options: argparse.Namespace) -> Supports:
    """Class name → images and masks of ``--support`` and ``--supports``; InputError if they cannot be used."""
    if options.support:
        return read_supports(options.support, None, options.scribbles)
    root = options.supports
    if not (root / IMAGES).is_dir() or not (root / MASKS).is_dir():
        raise InputError(f"--supports {root} is not laid out as expected: {LAYOUT}.")
    folder = LabelledFolder(root)
    names, source = folder.class_names, folder.images("val")
    pairs: dict[str, list[tuple[Array, Array]]] = {name: [] for name in names.values()}
    for i in range(len(source.names)):
        for number in source.facts(i).areas:
            pairs[names[number]].append((source.image(i), source.mask(i, number)))
    empty = [name for name, found in pairs.items() if not found]
    if empty and len(empty) < len(pairs):
        say(f"{root} has no mask that shows {', '.join(empty)}: not looked for.")
    return read_supports({name: found for name, found in pairs.items() if found}, None, options.scribbles)


def make_trainer(options: argparse.Namespace) -> pl.Trainer:
    """A Trainer that leaves no files of its own; InputError if this machine has no such devices."""
    devices = int(options.devices) if options.devices.isdigit() else options.devices
    if devices == "auto" and options.accelerator == "cpu":
        devices = 1
    refused = (
        f"--accelerator {options.accelerator} with --devices {options.devices} and --nodes {options.nodes} cannot be "
        "had on this machine: {} Leave them out to take what there is."
    )
    make = partial(
        pl.Trainer,
        accelerator=options.accelerator,
        devices=devices,
        num_nodes=options.nodes,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[progress_bar(leave=True)],
    )
    return checked_trainer(make, refused, "--nodes")


def fingerprint_of(segmenter: Segmenter, supports: Mapping[str, Any]) -> str:
    """What results depend on: the supports' pixels, the model, and how it is used."""
    digest = hashlib.sha256()
    for name, pairs in supports.items():
        digest.update(name.encode(errors="surrogateescape"))
        for image, mask in pairs:
            digest.update(
                f"{image.shape}".encode() + np.ascontiguousarray(image).data + np.ascontiguousarray(mask).data
            )
    use = [segmenter.model.identity, segmenter.threshold, segmenter.presence, segmenter.tile, segmenter.bf16]
    digest.update(json.dumps([*use, segmenter.refiners.identity, segmenter.sides, segmenter.calibration]).encode())
    return digest.hexdigest()


def report_fit(segmenter: Segmenter, images: int, pending: int) -> None:
    """Print what the supports are worth and what there is to do."""
    for fitted in segmenter.fitted:
        shots = len(fitted.supports)
        among = "what the supports find in each other" if shots > 1 else "what it finds in its mirrored copy"
        how = f"threshold {fitted.threshold:.2f}, refinement {fitted.choice.refinement}"
        print(f"{printable(fitted.name)}: {shots} support(s), {how}")
        print(f"  IoU to expect: {fitted.expected_iou:.2f}, of {among}")
        for report in fitted.supports:
            if report.disagrees:
                print(f"  support {report.number} disagrees with the others (IoU {report.iou:.2f}). Is its mask right?")
    done = f", {images - pending} of them done before" if pending < images else ""
    print(f"{images} images{done}")
    print(f"  in squares of {' and '.join(map(str, segmenter.sides))} px")


def finish(options: argparse.Namespace, folder: OutputFolder, new: Collection[str], too_long: Sequence[Path]) -> None:
    """Write what is made of all images, and say what there is; exit with 1 if some were left out.

    Args:
        options: of the command.
        folder: with the records of all images.
        new: names of those that were segmented just now.
        too_long: files of images whose results would have too long a name.
    """
    records = {name: record for name in folder.images if (record := read_record(folder.out, name)) is not None}
    missing = [name for name in folder.images if name not in records]
    if missing:
        raise InputError(f"{len(missing)} images have no result, e.g. {missing[0]}. Run the same command again.")
    aside = [file for name in new for file in records[name]["aside"]] + folder.clear()
    for name in records.keys() - set(new):
        records[name] = folder.update(name, records[name])
    here = {name: record | {"file": str(folder.images[name])} for name, record in records.items()}
    good = {name: record for name, record in here.items() if "error" not in record}
    aside += write_tables(folder, good, options.format, options.polygons)
    empty = sum(all(segment["empty"] for segment in record["segments"]) for record in good.values())
    lines = [f"{len(good)} segmented, {empty} of them empty: {folder.out / TABLE}, {folder.out / SHEET}"]
    if aside:
        lines += [f"Of earlier runs, and not of this one: {some(aside)}. Moved to {folder.out / ASIDE}."]
    say(*map(printable, lines))
    report_left_out(here, good, too_long)


def write_tables(
    folder: OutputFolder, good: Mapping[str, Record], formats: Collection[str], as_polygons: bool
) -> list[str]:
    """Write what is made of all images together; the files of earlier runs that were moved aside instead."""
    write_csv(folder.out, good)
    if "coco" in formats:
        write_coco(folder.out, good, folder.classes, as_polygons)
    if good:
        write_contact_sheet(folder.out, good, folder.classes)
    stale = [*([] if "coco" in formats else [ANNOTATIONS]), *([] if good else [SHEET])]
    return [file for file in stale if move_aside(folder.out, file)]


def report_left_out(records: Mapping[str, Record], good: Mapping[str, Record], too_long: Sequence[Path]) -> None:
    """Print which images and pages are in no result; exit with 1 if whole images are not."""
    several = [record for record in good.values() if record["pages"] > 1]
    left_out = [record["error"] for record in records.values() if "error" in record]
    left_out += [f"{path} has too long a name to name its results after it. Shorten it." for path in too_long]
    lines = [f"only the first of {record['pages']} pages or frames: {record['file']}" for record in several]
    lines += [f"left out: {error}" for error in left_out]
    if left_out:
        lines += [f"{len(left_out)} of {len(records) + len(too_long)} images could not be read."]
    print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr)
    if left_out:
        sys.exit(1)
