"""Labels of CVAT: colour masks with a labelmap.txt."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from datamodules.files import find_files, read_image
from datamodules.files.finding import normalized_name
from datamodules.files.lists import read_lines
from datamodules.files.sources import IGNORE, Array
from datamodules.prepare.annotations import AnnotatedImage, Files, Skipped, flat_name, has_class, number_classes
from qgnet.common.errors import InputError

CVAT_MASKS = ("SegmentationClass", "SegmentationClassPNG", "SegmentationClassAug")
IMAGES = "JPEGImages"
EXPORT = 'Export the task as "Segmentation mask 1.1" with "Save images", and unzip it.'
Colour = tuple[int, int, int]
BLACK: Colour = (0, 0, 0)


def read_cvat(source: Path, skipped: Skipped) -> tuple[dict[int, str], Iterator[AnnotatedImage]]:
    """Classes and images of a VOC layout with colour masks and a ``labelmap.txt``."""
    maps = sorted(source.rglob("labelmap.txt"))
    if len(maps) != 1:
        raise InputError(
            f"{source} holds {len(maps)} files labelmap.txt; expected one, in VOC's layout. {other_export(source)}"
        )
    colours = read_colours(maps[0])
    folder = maps[0].parent
    mask_folder = next((folder / name for name in CVAT_MASKS if (folder / name).is_dir()), None)
    if mask_folder is None or not (folder / IMAGES).is_dir():
        raise InputError(f"{folder} lacks {IMAGES}/ or {' or '.join(f'{name}/' for name in CVAT_MASKS)}. {EXPORT}")
    classes, numbers = number_classes(colours, skipped)
    code = {BLACK: 0} | {colour: numbers[name] for name, colour in colours.items()}
    return classes, cvat_images(folder / IMAGES, mask_folder, code, skipped)


def other_export(source: Path) -> str:
    """Advice for a source that is another export of CVAT, or any other folder."""
    files = [source] if source.is_file() else [path for path in source.rglob("*") if path.suffix in (".xml", ".json")]
    xml = next((path.name for path in files if path.suffix == ".xml"), None)
    if xml:
        return f'{xml} is of the export "CVAT for images". {EXPORT}'
    if any(path.suffix == ".json" for path in files):
        return f'If it is the export "COCO 1.0", take --from coco. {EXPORT}'
    return EXPORT


def read_colours(path: Path) -> dict[str, Colour]:
    """Label → colour of a ``labelmap.txt``; InputError if a label or a colour occurs twice."""
    colours: dict[str, Colour] = {}
    for line in read_lines(path):  # name:r,g,b:parts:actions
        name, text = [*line.split(":"), ""][:2]
        values = [int(value) if value.strip().isdecimal() else -1 for value in text.split(",")]
        if len(values) != 3 or not all(0 <= value <= 255 for value in values):
            raise InputError(f"{path} has the line {line!r}; expected `name:red,green,blue::`.")
        if name in colours:
            raise InputError(f"{path} names {name} twice. Keep one line of it.")
        colours[name] = (values[0], values[1], values[2])
    _, numbers = number_classes(colours, Skipped())
    meant: dict[Colour, dict[int, str]] = defaultdict(dict)
    if 0 not in numbers.values():
        meant[BLACK][0] = "the background"
    for name, colour in colours.items():
        meant[colour][numbers[name]] = name
    for colour, names in meant.items():
        if len(names) > 1:
            raise InputError(
                f"{path} gives {' and '.join(names.values())} one colour, {colour}: nobody can tell them apart. Give "
                "each label its own in CVAT, and export it again."
            )
    return colours


def cvat_images(images: Path, masks: Path, code: Mapping[Colour, int], skipped: Skipped) -> Iterator[AnnotatedImage]:
    """The images with a mask. Colours become class numbers; folders become part of the name."""
    found: dict[str, list[str]] = {}
    for file in find_files(images).files:
        found.setdefault(str(PurePosixPath(normalized_name(file)).with_suffix("")), []).append(file)
    files = find_files(masks).files
    names = [str(PurePosixPath(normalized_name(file)).with_suffix("")) for file in files]
    others = Files(found).matching(names)
    for mask_file, name, other in zip(files, names, others, strict=True):
        of_mask = found.get(name) or found.get(other or "", [])
        if len(of_mask) != 1:
            skipped.add(f"mask without an image in {IMAGES}/, or with several", mask_file)
            continue
        image = images / of_mask[0]
        labels = labels_of(read_image(masks / mask_file), code)
        if not isinstance(labels, np.ndarray):
            skipped.add(f"mask with a colour that labelmap.txt lacks {labels}", mask_file)
            continue
        yield AnnotatedImage(flat_name(mask_file), image, image.suffix, labels if has_class(labels) else None)


def labels_of(colours: Array, code: Mapping[Colour, int]) -> Array | Colour:
    """(H, W, 3) colours → (H, W) uint8 class numbers, or the first colour without a number."""
    red, green, blue = np.moveaxis(colours.astype(np.uint32), 2, 0)
    packed = red << 16 | green << 8 | blue
    mask = np.full(packed.shape, IGNORE, np.uint8)
    unknown = np.ones(packed.shape, bool)
    for (red_, green_, blue_), number in code.items():
        here = packed == (red_ << 16 | green_ << 8 | blue_)
        mask[here], unknown[here] = number, False
    if unknown.any():
        value = int(packed[unknown][0])
        return value >> 16, value >> 8 & 255, value & 255
    return mask
