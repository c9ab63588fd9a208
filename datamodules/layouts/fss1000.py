"""FSS-1000's folders: a class each, of ten images with a binary mask each."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.files import find_files, read_image_size, read_mask
from datamodules.files.finding import subfolders
from datamodules.files.index import INDEX_FOLDER
from datamodules.files.lists import read_lines
from datamodules.files.sources import BinaryMasks, require_folder
from qgnet.common.errors import InputError

SPLITS = "splits"
OTHER_NAMES = {"train": "trn", "test": "tst"}
"""HSNet's, of the split files."""
LAYOUT = "FSS-1000's folders: <class>/1.jpg … 10.jpg, each with its mask <class>/1.png … 10.png, and splits/*.txt"


class FssMasks(BinaryMasks):
    """FSS-1000's masks by HSNet's rules: the brighter half of any values, brought to the size of the image.

    Seven or more masks of the official archive have another size than their image, and one is an ordinary image.
    """

    def read(self, i: int, class_id: int) -> NDArray[np.bool_]:
        """(H, W): where the class is, in the size of the image."""
        mask = read_mask(self.masks[i][class_id], halve=True)
        size = read_image_size(self.images[i])
        return mask if mask.shape == size else nearest(mask, size)


def nearest(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask resized to (height, width) with nearest-neighbour."""
    return cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST).astype(bool)


def odd_mask(image: Path, mask: Path) -> str | None:
    """What is unusual about a mask that is used nevertheless; None if nothing is, or it cannot be read at all."""
    try:
        (height, width), (rows, columns) = read_image_size(image), read_image_size(mask)
        read_mask(mask, halve=True)
    except InputError:
        return None  # the index tells of it
    if (height, width) != (rows, columns):
        return f"{mask} is {columns}x{rows} px, its image {width}x{height} px: resized with nearest-neighbour"
    try:
        read_mask(mask)
    except InputError as error:
        return f"{error} Its brighter half is taken."
    return None


def class_folders(root: Path) -> list[str]:
    """Names of all class folders, sorted; InputError if there is none."""
    require_folder(root, "data.root", LAYOUT)
    found = [name for name in subfolders(root) if name not in (SPLITS, INDEX_FOLDER)]
    if not found:
        raise InputError(f"{root} holds no class folder. Expected {LAYOUT}. Point --data.root to it.")
    return found


def split_file(root: Path, split: str) -> Path:
    """The list of a split: ``splits/train.txt``, or HSNet's ``trn.txt`` where there is none."""
    file, other = (root / SPLITS / f"{name}.txt" for name in (split, OTHER_NAMES.get(split, split)))
    return file if file.is_file() or not other.is_file() else other


def split_classes(root: Path, split: str, known: dict[str, int]) -> list[str]:
    """Class names of one split; InputError if the list is missing or names a class twice or without a folder."""
    path = split_file(root, split)
    names = read_lines(path)
    missing = [name for name in names if name not in known]
    if missing:
        raise InputError(
            f"{path} names {len(missing)} class(es) without a folder in {root}, e.g. {missing[0]}. Add the folder, or "
            "take the name out of the list."
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path} names {twice} more than once. Keep one line of it.")
    return names


def fss_images(root: Path, classes: dict[int, str]) -> FssMasks:
    """All pairs ``<class>/<n>.jpg`` and ``.png`` of the classes; InputError if a class has no image.

    Other files (the archive has some ``.jpeg``) are left alone.
    """
    names, images, masks = [], [], []
    for class_id, name in classes.items():
        files = [root / name / file for file in find_files(root / name, deep=False).files]
        found = sorted(
            (path for path in files if path.suffix.lower() == ".jpg"), key=lambda path: (len(path.stem), path.stem)
        )
        if not found:
            raise InputError(f"{root / name} holds no .jpg. Expected {LAYOUT}.")
        mask_of = {path.stem: path for path in files if path.suffix.lower() == ".png"}
        names += [f"{name}/{path.stem}" for path in found]
        images += found
        masks += [{class_id: mask_of.get(path.stem, path.with_suffix(".png"))} for path in found]
    return FssMasks(names, images, masks)
