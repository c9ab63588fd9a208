"""Labels of CVAT: colour masks with a labelmap.txt."""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from datamodules.files import find_files, read_picture
from datamodules.files.finding import by_name
from datamodules.files.lists import read_lines
from datamodules.files.sources import IGNORE
from datamodules.prepare.labelled import BACKGROUND, Labelled, Skipped, matching
from qgnet.common.errors import InputError


def read_cvat(source: Path, skipped: Skipped) -> tuple[dict[int, str], Iterator[Labelled]]:
    """Classes and images of a VOC layout with colour masks and a ``labelmap.txt``."""
    maps = sorted(source.rglob("labelmap.txt"))
    if len(maps) != 1:
        raise InputError(f"{source} holds {len(maps)} files labelmap.txt; expected one, in VOC's layout.")
    colours: dict[str, tuple[int, ...]] = {}
    for line in read_lines(maps[0]):  # name:r,g,b:parts:actions
        name, colour = [*line.split(":"), ""][:2]
        try:
            colours[name] = tuple(int(value) for value in colour.split(","))
        except ValueError:
            colours[name] = ()
        if len(colours[name]) != 3:
            raise InputError(f"{maps[0]} has the line {line!r}; expected `name:red,green,blue::`.")
    folder = maps[0].parent
    mask_folder = next((folder / name for name in CVAT_MASKS if (folder / name).is_dir()), None)
    if mask_folder is None or not (folder / "JPEGImages").is_dir():
        raise InputError(
            f"{folder} lacks JPEGImages/ or {' or '.join(f'{name}/' for name in CVAT_MASKS)}. Export the images, too."
        )
    classes = dict(enumerate((name for name in colours if name.lower() not in BACKGROUND), start=1))
    code = {c: 0 for name, c in colours.items() if name.lower() in BACKGROUND} | {(0, 0, 0): 0}
    code |= {colours[name]: number for number, name in classes.items()}
    return classes, cvat_images(folder / "JPEGImages", mask_folder, code, skipped)


CVAT_MASKS = ("SegmentationClass", "SegmentationClassPNG", "SegmentationClassAug")


def cvat_images(
    pictures: Path, masks: Path, code: Mapping[tuple[int, ...], int], skipped: Skipped
) -> Iterator[Labelled]:
    """The images that have a mask; colours become class numbers."""
    found = find_files(pictures).files
    mask_of = by_name(masks, find_files(masks).files)
    for name, path in mask_of.items():
        file = matching([str(PurePosixPath(f).with_suffix("")) for f in found], name)
        if file is None:
            skipped.add("mask without an image in JPEGImages/", path.name)
            continue
        picture = next(pictures / f for f in found if str(PurePosixPath(f).with_suffix("")) == file)
        colours = read_picture(path).astype(np.uint32)
        packed = colours[..., 0] << 16 | colours[..., 1] << 8 | colours[..., 2]
        mask = np.full(packed.shape, IGNORE, np.uint8)
        unknown = np.ones(packed.shape, bool)
        for (red, green, blue), number in code.items():
            here = packed == (red << 16 | green << 8 | blue)
            mask[here], unknown[here] = number, False
        if unknown.any():
            value = int(packed[unknown][0])
            colour = (value >> 16, value >> 8 & 255, value & 255)
            skipped.add(f"mask with a colour that labelmap.txt lacks {colour}", path.name)
            continue
        yield Labelled(name, picture, picture.suffix, mask if mask.any() else None)
