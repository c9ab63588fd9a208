"""Your own images and masks: the two layouts of a folder, and notices about unusual content."""

import argparse
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

from datamodules import files
from datamodules.datasets.counts import Count, Indexed, Prepared
from datamodules.datasets.spec import PreparableDataset, Split
from datamodules.files.finding import (
    CLASSES,
    ENDINGS,
    IMAGES,
    MASKS,
    files_by_name,
    find_files,
    normalized_name,
    subfolders,
)
from datamodules.prepare.choices import LAYOUT, Tool
from qgnet.common.errors import InputError, some
from qgnet.common.terminal import say

if TYPE_CHECKING:
    from datamodules.datasets.protocols import Protocol
    from datamodules.files.index import MaskIndex
    from datamodules.files.sources import BinaryMasks, IndexMasks


@dataclass(frozen=True)
class LabelledFolder(PreparableDataset):
    """A folder of images and masks. Training and test share the folder, but no image.

    Args:
        root: folder with ``images/`` and ``masks/``.
        novel: names of the novel classes; all others are base classes. Empty: all are novel, for a test only.
        mask_suffix: suffix of mask names, e.g. ``_mask`` for ``a.jpg`` and ``a_mask.png``.
    """

    min_class_area = 1

    root: Path = Path("data/folder")
    novel: Sequence[str] = ()
    mask_suffix: str = ""

    @cached_property
    def class_names(self) -> dict[int, str]:
        """As in ``classes.yaml``, or the mask folders in alphabetical order from 1."""
        return read_layout(self.root).classes

    @property
    def folds(self) -> list[list[int]]:
        """One fold: the classes named by ``novel``."""
        number = {name: i for i, name in self.class_names.items()}
        unknown = [name for name in self.novel if name not in number]
        if unknown:
            raise InputError(
                f"{self.prefix}.novel names {unknown[0]}, but {self.root} has the classes {', '.join(number)}. Choose "
                "of these."
            )
        return [[number[name] for name in self.novel] or list(self.class_names)]

    def adapt_protocol(self, protocol: "Protocol") -> "Protocol":
        """The protocol, with images of novel classes left out of training."""
        if protocol.novel_in_training not in (None, "drop"):
            raise InputError(
                f"data.protocol.novel_in_training is {protocol.novel_in_training}, which would train on images "
                "that are tested on: a folder has no others with novel classes. Take it out: they are dropped."
            )
        return replace(protocol, novel_in_training="drop")

    def images(self, split: Split, fold: int | None = 0) -> "IndexMasks | BinaryMasks":
        """All labelled images."""
        if split == "train" and not self.base_classes(fold):
            raise InputError(
                f"Training needs base classes: name the novel ones with --{self.prefix}.novel (e.g. '[cat, dog]'); all "
                "other classes of the folder are base classes."
            )
        return self._images

    @cached_property
    def _images(self) -> "IndexMasks | BinaryMasks":
        return folder_images(self.root, self.mask_suffix, f"{self.prefix}.mask_suffix")

    def index(self, images: "IndexMasks | BinaryMasks", split: Split) -> "MaskIndex":  # type: ignore[override]
        """As of every data set; InputError if no mask holds an object."""
        index = super().index(images, split)
        check_classes(images, index)
        return index

    def index_file(self, split: Split) -> Path:
        """``mask_index/folder.npz`` beside the images."""
        return self.root / files.INDEX_FOLDER / "folder.npz"

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """How masks are named, and where labels come from."""
        parser.add_argument("--mask-suffix", default="", help="what follows an image's name in its mask's, e.g. _mask")
        parser.add_argument(
            "--from",
            dest="labels",
            nargs=2,
            metavar=("TOOL", "SOURCE"),
            help=f"first write the folder from what a tool ({', '.join(get_args(Tool))}) has labelled",
        )

    def prepare(self, check_only: bool) -> Prepared:
        """Check, index and count."""
        indexed = Indexed.of(self, "val", "masks")
        images, index = indexed.images, indexed.index
        check_classes(images, index)
        counts = [Count("images", len(images.names))]
        counts += [Count(f"images with {name}", len(index.images_of(c, 1))) for c, name in self.class_names.items()]
        return Prepared(counts, {"folder": indexed}, notices(images, index, self.class_names))


class NamedFolder(LabelledFolder):
    """As FolderDataModule has it, whose own settings are those of the folder."""

    prefix = "data"


class Layout(NamedTuple):
    """How a folder's masks lie.

    Attributes:
        folders: names of the classes' folders in ``masks/``; none: the masks lie in ``masks/`` itself.
        masks: all mask files, relative to ``masks/``.
        white: whether masks in ``masks/`` itself are of one class, in black and white, as ``classes.yaml`` says.
        classes: number → name.
        left_out: what is left out of ``masks/``.
    """

    folders: list[str]
    masks: list[str]
    white: bool
    classes: dict[int, str]
    left_out: list[str]


def read_layout(root: Path) -> Layout:
    """Find the masks and the classes; InputError if the folder or ``classes.yaml`` is not laid out as expected."""
    for path in (root, root / IMAGES, root / MASKS):
        files.require_folder(path, LAYOUT)
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
        left_out = [found.left_out_message(root / MASKS / name) for name, found in folders.items()]
        names = dict(enumerate(folders, start=1))
        files.check_printable(names, str(root / MASKS))
        files.check_distinct(names, str(root / MASKS))
        return Layout(list(folders), masks, False, names, left_out)
    left_out = [direct.left_out_message(root / MASKS)]
    if not (root / CLASSES).is_file():
        raise InputError(f"{root / CLASSES} does not exist. Expected {LAYOUT}.")
    names = files.read_classes(root / CLASSES)
    files.check_printable(names, str(root / CLASSES))
    files.check_distinct(names, str(root / CLASSES))
    if list(names) == [files.IGNORE]:
        return Layout([], direct.files, True, {1: names[files.IGNORE]}, left_out)
    wrong = [str(number) for number in sorted(names) if not 0 < number < files.IGNORE]
    if wrong or not names:
        raise InputError(
            f"{root / CLASSES} holds the class numbers {some(wrong) or 'none'}; expected numbers from 1 to 254, or 255 "
            "alone: one class, whose masks are black and white. For more classes, write a folder of black-and-white "
            f"masks for each, {MASKS}/<class>/<name>.png."
        )
    return Layout([], direct.files, False, names, left_out)


def folder_images(root: Path, suffix: str, setting: str) -> "IndexMasks | BinaryMasks":
    """All images that have a mask; says what is left out. ``setting`` is the suffix's name in messages.

    Raises:
        InputError: if a mask has no image, two images or masks have the same name, or there is no mask.
    """
    layout = read_layout(root)
    if not layout.masks:
        raise InputError(f"{root / MASKS} holds no mask ({', '.join(sorted(ENDINGS))}). Expected {LAYOUT}.")
    found = find_files(root / IMAGES, deep=False)
    images = files_by_name(root / IMAGES, found.files)
    masks: dict[str, dict[int, Path]] = {}
    end, without_end = normalized_name(suffix), 0
    for number, name in layout.classes.items() if layout.folders else [(1, "")]:
        of_class = [file for file in layout.masks if not layout.folders or file.startswith(f"{name}/")]
        for stem, path in files_by_name(root / MASKS, of_class).items():
            of_image = masks.setdefault(stem.removesuffix(end), {})
            if number in of_image:
                raise InputError(f"{path} and {of_image[number].name} are both masks of one image. Remove one.")
            of_image[number] = path
            without_end += not stem.endswith(end)
    if without_end and without_end == len(layout.masks):
        raise InputError(
            f"{setting} (--mask-suffix of `qgnet prepare`) is {suffix}, but no mask's name ends in it. "
            "Correct it, or take it out."
        )
    alone = [name for name in masks if name not in images]
    if alone:
        raise InputError(
            f"{next(iter(masks[alone[0]].values()))} has no image in {root / IMAGES} ({len(alone)} such mask(s)). Add "
            f"it, or remove it.{suffix_hint(alone, images, setting)}"
        )
    say(found.left_out_message(root / IMAGES), *layout.left_out)
    if len(images) > len(masks):
        first = next(name for name in images if name not in masks)
        say(f"{len(images) - len(masks)} image(s) have no mask and are left out, e.g. {images[first]}.")
    names = sorted(masks)
    image_files = [images[name] for name in names]
    if layout.folders or layout.white:
        return files.BinaryMasks(names, image_files, [masks[name] for name in names])
    return files.IndexMasks(names, image_files, [masks[name][1] for name in names], layout.classes)


def suffix_hint(alone: Sequence[str], images: Collection[str], setting: str) -> str:
    """The setting that finds the images of masks which are named otherwise; nothing if there is none for all."""
    ends = {alone[0][len(name) :] for name in images if alone[0].startswith(name)}
    for end in sorted(ends, key=len):
        if all(name.endswith(end) and name.removesuffix(end) in images for name in alone):
            option = f"--{setting}={end} (--mask-suffix={end} of `qgnet prepare`)"
            return f" If {end!r} follows the image's name, {option} finds it."
    return ""


def check_classes(source: "IndexMasks | BinaryMasks", index: "MaskIndex") -> None:
    """InputError if no mask holds an object, saying what the first that can be read holds instead."""
    good = [i for i in range(len(source.names)) if i not in index.bad]
    if not good or any(index.facts[i].areas for i in good):
        return
    if isinstance(source, files.BinaryMasks):
        first = next(iter(source.masks[good[0]].values()))
        raise InputError(f"The masks of all {len(good)} images are empty, e.g. {first}. Draw the objects.")
    values = files.some_values(source.labels(good[0]))
    raise InputError(
        f"None of {len(good)} masks holds a class, e.g. {source.masks[good[0]]}: {values}. "
        "0 is background and 255 is ignored. If 255 is the object, write `255: <its name>` as the only line of "
        f"{CLASSES}, or move the masks to {MASKS}/<its name>/."
    )


def notices(source: "IndexMasks | BinaryMasks", index: "MaskIndex", classes: Mapping[int, str]) -> list[str]:
    """Notices about the masks: classes with at most one image, and masks without an object."""
    lines = [
        f"class {name} is taken as any other. If it is none, leave its pixels 0 (background) or 255 (ignored)."
        for name in classes.values()
        if files.reserved_number(name) is not None
    ]
    for number, name in classes.items():
        count = len(index.images_of(number, 1))
        if count < 2:
            lines.append(f"class {name} has {count} image(s); an episode needs two: it is left out of every episode.")
    good = [i for i in range(len(source.names)) if i not in index.bad]
    if isinstance(source, files.BinaryMasks):
        for number, name in classes.items():
            masks = [source.masks[i][number] for i in good if number in source.masks[i].keys() - index.facts[i].areas]
            if masks:
                lines.append(f"class {name}: {len(masks)} mask(s) are empty, e.g. {masks[0]}.")
    else:
        empty = [i for i in good if not index.facts[i].areas]
        if empty:
            first = f"{source.masks[empty[0]]}: {files.some_values(source.labels(empty[0]))}"
            lines.append(f"{len(empty)} mask(s) hold no class, only 0 (background) and 255 (ignored), e.g. {first}.")
    return lines
