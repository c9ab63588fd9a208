"""A folder of your own images and masks: its two layouts, and what is unusual about one."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from datamodules.episodes.classes import check_distinct, check_printable, reserved_number
from datamodules.files import find_files
from datamodules.files.finding import ENDINGS, files_by_name, normalized_name, subfolders
from datamodules.files.index import MaskIndex
from datamodules.files.lists import read_classes
from datamodules.files.masks import some_values
from datamodules.files.sources import IGNORE, BinaryMasks, IndexMasks, require_folder
from datamodules.layouts import LAYOUT
from qgnet.common.errors import InputError
from qgnet.common.terminal import say
from qgnet.common.text import some

IMAGES = "images"
MASKS = "masks"
CLASSES = "classes.yaml"


class Layout(NamedTuple):
    """How a folder's masks lie.

    Attributes:
        folders: names of the classes' folders in ``masks/``; none: the masks lie in ``masks/`` itself.
        masks: all mask files, relative to ``masks/``.
        white: whether masks in ``masks/`` itself are of one class, in black and white, as ``classes.yaml`` says.
        classes: number → name.
        told: what is left out of ``masks/``.
    """

    folders: list[str]
    masks: list[str]
    white: bool
    classes: dict[int, str]
    told: list[str]


def read_layout(root: Path) -> Layout:
    """Find the masks and the classes.

    Raises:
        InputError: if the folder is not laid out as expected, or ``classes.yaml`` is not what it should be.
    """
    for path in (root, root / IMAGES, root / MASKS):
        require_folder(path, "data.root", LAYOUT)
    folders = {name: find_files(root / MASKS / name, deep=False) for name in subfolders(root / MASKS)}
    direct = find_files(root / MASKS, deep=False)
    if direct.files and any(found.files for found in folders.values()):
        first = next(name for name, found in folders.items() if found.files)
        raise InputError(
            f"{root / MASKS} holds masks ({direct.files[0]}, …) and folders of masks ({first}, …). Expected {LAYOUT}. "
            "Move one of the two away."
        )
    if not direct.files and folders:
        masks = [f"{name}/{file}" for name, found in folders.items() for file in found.files]
        told = [found.left_out_message(root / MASKS / name) for name, found in folders.items()]
        names = dict(enumerate(folders, start=1))
        check_printable(names, str(root / MASKS))
        check_distinct(names, str(root / MASKS))
        return Layout(list(folders), masks, False, names, told)
    told = [direct.left_out_message(root / MASKS)]
    if not (root / CLASSES).is_file():
        raise InputError(f"{root / CLASSES} does not exist. Expected {LAYOUT}.")
    names = read_classes(root / CLASSES)
    check_printable(names, str(root / CLASSES))
    check_distinct(names, str(root / CLASSES))
    if list(names) == [IGNORE]:
        return Layout([], direct.files, True, {1: names[IGNORE]}, told)
    wrong = [str(number) for number in sorted(names) if not 0 < number < IGNORE]
    if wrong or not names:
        raise InputError(
            f"{root / CLASSES} holds the class numbers {some(wrong) or 'none'}; expected numbers from 1 to 254, or 255 "
            "alone: one class, whose masks are black and white. For more classes, write a folder of black-and-white "
            f"masks for each, {MASKS}/<class>/<name>.png."
        )
    return Layout([], direct.files, False, names, told)


def folder_classes(root: Path) -> dict[int, str]:
    """Class number → name; InputError as of :func:`read_layout`."""
    return read_layout(root).classes


def folder_images(root: Path, suffix: str = "") -> IndexMasks | BinaryMasks:
    """All images that have a mask; says how many have none, and what else is left out.

    Args:
        root: folder with ``images/`` and ``masks/``.
        suffix: what follows an image's name in its mask's.

    Raises:
        InputError: if a mask has no image, two images or masks have one name, or there is no mask.
    """
    layout = read_layout(root)
    if not layout.masks:
        raise InputError(f"{root / MASKS} holds no mask ({', '.join(sorted(ENDINGS))}). Expected {LAYOUT}.")
    found = find_files(root / IMAGES, deep=False)
    images = files_by_name(root / IMAGES, found.files)
    masks: dict[str, dict[int, Path]] = {}
    end, without_end = normalized_name(suffix), 0
    for number, name in layout.classes.items() if layout.folders else [(1, "")]:
        files = [file for file in layout.masks if not layout.folders or file.startswith(f"{name}/")]
        for stem, path in files_by_name(root / MASKS, files).items():
            of_image = masks.setdefault(stem.removesuffix(end), {})
            if number in of_image:
                raise InputError(f"{path} and {of_image[number].name} are both masks of one image. Remove one.")
            of_image[number] = path
            without_end += not stem.endswith(end)
    if without_end and without_end == len(layout.masks):
        raise InputError(
            f"data.mask_suffix (--mask-suffix of `qgnet prepare`) is {suffix}, but no mask's name ends in it. "
            "Correct it, or take it out."
        )
    alone = [name for name in masks if name not in images]
    if alone:
        raise InputError(
            f"{next(iter(masks[alone[0]].values()))} has no image in {root / IMAGES} ({len(alone)} such mask(s)). Add "
            f"it, or remove it.{suffix_hint(alone, images)}"
        )
    say(found.left_out_message(root / IMAGES), *layout.told)
    if len(images) > len(masks):
        first = next(name for name in images if name not in masks)
        say(f"{len(images) - len(masks)} image(s) have no mask and are left out, e.g. {images[first]}.")
    names = sorted(masks)
    files = [images[name] for name in names]
    if layout.folders or layout.white:
        return BinaryMasks(names, files, [masks[name] for name in names])
    return IndexMasks(names, files, [masks[name][1] for name in names], layout.classes)


def suffix_hint(alone: Sequence[str], images: Collection[str]) -> str:
    """The setting that finds the images of masks which are named otherwise; nothing if there is none for all."""
    ends = {alone[0][len(name) :] for name in images if alone[0].startswith(name)}
    for end in sorted(ends, key=len):
        if all(name.endswith(end) and name.removesuffix(end) in images for name in alone):
            setting = f"--data.mask_suffix={end} (--mask-suffix={end} of `qgnet prepare`)"
            return f" If {end!r} follows the image's name, {setting} finds it."
    return ""


def check_classes(source: IndexMasks | BinaryMasks, index: MaskIndex) -> None:
    """InputError if no mask holds an object, saying what the first that can be read holds instead."""
    good = [i for i in range(len(source.names)) if i not in index.bad]
    if not good or any(index.facts[i].areas for i in good):
        return
    if isinstance(source, BinaryMasks):
        first = next(iter(source.masks[good[0]].values()))
        raise InputError(f"The masks of all {len(good)} images are empty, e.g. {first}. Draw the objects.")
    values = some_values(source.labels(good[0]))
    raise InputError(
        f"None of {len(good)} masks holds a class, e.g. {source.masks[good[0]]}: {values}. "
        "0 is background and 255 is ignored. If 255 is the object, write `255: <its name>` as the only line of "
        f"{CLASSES}, or move the masks to {MASKS}/<its name>/."
    )


def notices(source: IndexMasks | BinaryMasks, index: MaskIndex, classes: Mapping[int, str]) -> list[str]:
    """What is unusual about the masks: classes without or with one image only, and masks without any object."""
    lines = [
        f"class {name} is taken as any other. If it is none, leave its pixels 0 (background) or 255 (ignored)."
        for name in classes.values()
        if reserved_number(name) is not None
    ]
    for number, name in classes.items():
        count = len(index.images_of(number, 1))
        if count < 2:
            lines.append(f"class {name} has {count} image(s); an episode needs two: it is left out of every episode.")
    good = [i for i in range(len(source.names)) if i not in index.bad]
    if isinstance(source, BinaryMasks):
        for number, name in classes.items():
            masks = [source.masks[i][number] for i in good if number in source.masks[i].keys() - index.facts[i].areas]
            if masks:
                lines.append(f"class {name}: {len(masks)} mask(s) are empty, e.g. {masks[0]}.")
    else:
        empty = [i for i in good if not index.facts[i].areas]
        if empty:
            first = f"{source.masks[empty[0]]}: {some_values(source.labels(empty[0]))}"
            lines.append(f"{len(empty)} mask(s) hold no class, only 0 (background) and 255 (ignored), e.g. {first}.")
    return lines
