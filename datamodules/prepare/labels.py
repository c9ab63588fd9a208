"""Convert the labels of tools to a folder of images and index masks."""

import json
import shutil
from pathlib import Path

from datamodules.files import find_files
from datamodules.files.classes import check_distinct, check_printable
from datamodules.files.finding import CLASSES, IMAGES, MASKS, normalized_name, subfolders
from datamodules.files.png import write_plain_png
from datamodules.files.sources import IGNORE
from datamodules.files.writing import atomic_write, remove_parts
from datamodules.prepare.annotations import Skipped
from datamodules.prepare.choices import Tool
from datamodules.prepare.coco_json import read_coco
from datamodules.prepare.cvat import read_cvat
from datamodules.prepare.labelme import read_labelme
from qgnet.common.errors import InputError
from qgnet.common.progress import progress


def convert(tool: Tool, source: Path, root: Path) -> list[str]:
    """Write ``images/`` and ``masks/`` from the labels of a tool, then ``classes.yaml`` when they are complete.

    Returns what was skipped, one line per reason.

    Raises:
        InputError: if the source is not in the tool's format, contains nothing usable, or ``root`` contains data.
    """
    if (root / CLASSES).exists() or ((root / MASKS).is_dir() and subfolders(root / MASKS)):
        raise InputError(f"{root} holds a data set already. Choose another --root, or remove it.")
    if not source.exists():
        raise InputError(f"{source} does not exist. Give the folder that {tool} has written.")
    if source.is_file() and source.suffix.lower() == ".zip":
        raise InputError(f"{source} is a ZIP. Unzip it, and give the folder.")
    skipped = Skipped()
    classes, labelled = READERS[tool](source, skipped)
    if not 0 < len(classes) < IGNORE:
        raise InputError(f"{source} has {len(classes)} classes; expected 1 to 254. Take labels out, or name others.")
    check_printable(classes, str(source))
    check_distinct(classes, str(source))
    begin(root, f"{tool} {source.resolve()}")
    written: set[str] = set()
    for item in progress(labelled, "Writing masks", unit="image", leave=False):
        if item.mask is None:
            skipped.add("image without a label", item.name)
            continue
        if item.name in written:
            raise InputError(f"{source} has two images that would be named {item.name}. Rename one.")
        written.add(item.name)
        write_image(item.image, root / IMAGES / f"{item.name}{item.ending}")
        write_plain_png(root / MASKS / f"{item.name}.png", item.mask)
    if not written:
        raise InputError(" ".join([f"{source} holds no image with a label that can be used.", *skipped.lines()]))
    others = [file for file in find_files(root / MASKS).files if normalized_name(Path(file).stem) not in written]
    if others:
        raise InputError(
            f"{root / MASKS} holds masks of which {source} has no labels, e.g. {others[0]}: they are of another run. "
            f"Remove {root / MASKS} and {root / IMAGES}, and run this again."
        )
    lines = [f"{number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in classes.items()]
    with atomic_write(root / CLASSES) as part:
        part.write_text("".join(lines), encoding="utf-8")
    (root / BEGUN).unlink()
    return skipped.lines()


BEGUN = ".qgnet-prepare"
"""File in the folder while masks are written; it names the source of the labels."""


def begin(root: Path, origin: str) -> None:
    """Mark the folder as in progress for these labels; InputError if it contains other masks."""
    if (root / BEGUN).exists() and (root / BEGUN).read_text(encoding="utf-8") == origin:
        remove_parts(root / IMAGES)
        remove_parts(root / MASKS)
        return
    if (root / MASKS).is_dir() and find_files(root / MASKS).files:
        raise InputError(
            f"{root / MASKS} holds masks already, which may not be of these labels. Choose another --root, or remove "
            f"{root / MASKS}."
        )
    with atomic_write(root / BEGUN) as part:
        part.write_text(origin, encoding="utf-8")


def write_image(image: Path | bytes, target: Path) -> None:
    """Copy an image atomically; InputError if the target is another image."""
    if target.exists():
        if target.read_bytes() == (image if isinstance(image, bytes) else image.read_bytes()):
            return
        raise InputError(f"{target} exists already and is another image. Choose another --root, or move it away.")
    with atomic_write(target) as part:
        if isinstance(image, bytes):
            part.write_bytes(image)
        else:
            shutil.copyfile(image, part)


READERS = {"labelme": read_labelme, "coco": read_coco, "cvat": read_cvat}
