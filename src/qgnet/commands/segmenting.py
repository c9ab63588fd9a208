"""The work of ``qgnet segment``: photographs through a Segmenter, and what is written of them."""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl

from datamodules.files.sources import Array
from datamodules.layouts.folder import IMAGES, MASKS, folder_classes, folder_images
from datamodules.photographs import PhotographsDataModule
from qgnet.callbacks.log_progress import progress_bar
from qgnet.callbacks.segments import SegmentWriter
from qgnet.common.choices import LAYOUT
from qgnet.common.errors import InputError
from qgnet.common.say import say
from qgnet.common.terminal import quiet
from qgnet.outputs.records import (
    Record,
    check_writable,
    is_done,
    read_record,
    write_coco,
    write_contact_sheet,
    write_csv,
)
from qgnet.segmenting.given import read_supports
from qgnet.segmenting.segmenter import Segmenter
from qgnet.segmenting.task import PhotographSegmentation

Supports = dict[str, list[tuple[Array, Array]]]


def segment(options: argparse.Namespace, files: dict[str, Path], model: dict[str, Any]) -> None:
    """Segment and write.

    Args:
        options: of the command.
        files: name → photograph.
        model: which network, as a Segmenter takes it.

    Raises:
        InputError: for anything that cannot be used, before the work starts.
    """
    quiet()
    supports = given_supports(options)
    segmenter = make_segmenter(options, model)
    trainer = make_trainer(options)
    segmenter.fit(supports)
    check_writable(options.out)
    fingerprint = fingerprint_of(options, segmenter, supports)
    left = {n: p for n, p in files.items() if not is_done(read_record(options.out, n, fingerprint), p)}
    if trainer.is_global_zero:
        tell(segmenter, len(files), len(left))
    if left:
        side = segmenter.model.image_size
        data = PhotographsDataModule(left, side, options.tile, options.batch_size, options.workers)
        trainer.callbacks.append(SegmentWriter(options.out, options.format, fingerprint))  # type: ignore[attr-defined]
        trainer.predict(PhotographSegmentation(segmenter), data, return_predictions=False)
        trainer.strategy.barrier()
    if trainer.is_global_zero:
        finish(options, segmenter, {name: read_record(options.out, name, fingerprint) for name in files})


def given_supports(options: argparse.Namespace) -> Supports:
    """Class name → pictures and masks of ``--support`` and ``--supports``; InputError if they cannot be used."""
    if options.support:
        return read_supports(options.support, None)
    root = options.supports
    if not (root / IMAGES).is_dir() or not (root / MASKS).is_dir():
        raise InputError(f"--supports {root} is not laid out as expected: {LAYOUT}.")
    names = folder_classes(root)
    source = folder_images(root)
    pairs: dict[str, list[tuple[Array, Array]]] = {name: [] for name in names.values()}
    for i in range(len(source.names)):
        for number in source.facts(i).areas:
            pairs[names[number]].append((source.image(i), source.mask(i, number)))
    empty = [name for name, found in pairs.items() if not found]
    if empty and len(empty) < len(pairs):
        say(f"{root} has no mask that shows {', '.join(empty)}: not looked for.")
    return read_supports({name: found for name, found in pairs.items() if found}, None)


def make_segmenter(options: argparse.Namespace, model: dict[str, Any]) -> Segmenter:
    """The Segmenter asked for; InputError if it cannot be had."""
    return Segmenter(
        **model,
        device="cpu",  # until Lightning moves it
        bf16=options.bf16,
        tile=options.tile,
        threshold=options.threshold,
        presence=options.presence,
    )


def make_trainer(options: argparse.Namespace) -> pl.Trainer:
    """A Trainer that leaves no files of its own; InputError if this machine has no such devices."""
    devices = int(options.devices) if str(options.devices).isdigit() else options.devices
    if devices == "auto" and options.accelerator == "cpu":
        devices = 1
    try:
        return pl.Trainer(
            accelerator=options.accelerator,
            devices=devices,
            num_nodes=options.nodes,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            callbacks=[progress_bar(leave=True)],
        )
    except (ValueError, RuntimeError) as error:  # MisconfigurationException is one, too
        raise InputError(f"{error} Correct --devices, --nodes or --accelerator.") from error


def fingerprint_of(options: argparse.Namespace, segmenter: Segmenter, supports: Mapping[str, Any]) -> str:
    """What results depend on: the supports' pixels, the model, and how it is used."""
    digest = hashlib.sha256()
    for name, pairs in supports.items():
        digest.update(name.encode())
        for image, mask in pairs:
            digest.update(
                f"{image.shape}".encode() + np.ascontiguousarray(image).data + np.ascontiguousarray(mask).data
            )
    use = [segmenter.model.identity, segmenter.threshold, segmenter.presence, segmenter.tile, segmenter.bf16]
    digest.update(json.dumps([*use, segmenter.model.calibration, sorted(options.format)]).encode())
    return digest.hexdigest()


def tell(segmenter: Segmenter, photographs: int, left: int) -> None:
    """Say what was learnt and what there is to do."""
    for learnt in segmenter.learnt:
        shots = len(learnt.supports)
        among = "what the supports find in each other" if shots > 1 else "what it finds in its mirrored copy"
        print(f"{learnt.name}: {shots} support(s), threshold {learnt.threshold:.2f}")
        print(f"  IoU to expect: {learnt.expected_iou:.2f}, of {among}")
        for report in learnt.supports:
            if report.disagrees:
                print(f"  support {report.number} disagrees with the others (IoU {report.iou:.2f}). Is its mask right?")
    done = f", {photographs - left} of them done before" if left < photographs else ""
    print(f"{photographs} photographs{done}")


def finish(options: argparse.Namespace, segmenter: Segmenter, records: dict[str, Record | None]) -> None:
    """Write what is made of all photographs, and say what there is; exit with 1 if some could not be read."""
    missing = [name for name, record in records.items() if record is None]
    if missing:
        raise InputError(f"{len(missing)} photographs have no result, e.g. {missing[0]}. Run the same command again.")
    found = {name: record for name, record in records.items() if record is not None}
    broken = {name: record for name, record in found.items() if "error" in record}
    good = {name: record for name, record in found.items() if "error" not in record}
    out = options.out
    write_csv(out, good)
    if "coco" in options.format:
        write_coco(out, good, segmenter.classes, options.polygons)
    if good:
        write_contact_sheet(out, good)
    empty = sum(all(segment["empty"] for segment in record["segments"]) for record in good.values())
    print(f"{len(good)} segmented, {empty} of them empty: {out / 'segments.csv'}, {out / 'contact_sheet.jpg'}")
    for record in broken.values():
        print(f"left out: {record['error']}", file=sys.stderr)
    if broken:
        print(f"{len(broken)} of {len(found)} photographs could not be read.", file=sys.stderr)
        sys.exit(1)
