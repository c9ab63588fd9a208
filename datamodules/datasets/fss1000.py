"""FSS-1000: 1,000 classes in a folder each, of ten images with a binary mask each."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from datamodules import files
from datamodules.datasets.counts import Count, Indexed, Prepared
from datamodules.datasets.spec import PreparableDataset, Split
from datamodules.files.finding import find_files, subfolders
from qgnet.common.errors import InputError
from qgnet.common.pool import processes
from qgnet.common.progress import progress

if TYPE_CHECKING:
    from datamodules.files.sources import BinaryMasks

SPLITS = "splits"
OTHER_NAMES = {"train": "trn", "test": "tst"}
"""HSNet's, of the split files."""
FSS_EXPECTED = {"train": 520, "val": 240, "test": 240}
"""Classes of each split, of ten images each."""
LAYOUT = "FSS-1000's folders: <class>/1.jpg … 10.jpg, each with its mask <class>/1.png … 10.png, and splits/*.txt"


@dataclass(frozen=True)
class Fss1000(PreparableDataset):
    """FSS-1000; base classes are those of ``splits/train.txt``, and there is one fold.

    Args:
        root: folder of the class folders and of ``splits/{train,val,test}.txt``, a class name per line.
        evaluate: the split of the novel classes: ``test``, or ``val`` to choose a checkpoint without test classes.
    """

    image_size = 225
    min_class_area = 1

    root: Path = Path("data/fss1000")
    evaluate: Literal["val", "test"] = "test"

    @cached_property
    def class_names(self) -> dict[int, str]:
        """The class folders in alphabetical order, 1 … 1000; InputError if there is none."""
        files.require_folder(self.root, LAYOUT)
        found = [name for name in subfolders(self.root) if name not in (SPLITS, files.INDEX_FOLDER)]
        if not found:
            raise InputError(f"{self.root} holds no class folder. Expected {LAYOUT}. Point the data set's root to it.")
        names = dict(enumerate(found, start=1))
        files.check_printable(names, str(self.root))
        return names

    @property
    def folds(self) -> list[list[int]]:
        """One fold: the classes of ``splits/test.txt`` (or ``val.txt``)."""
        return [self._listed(self.evaluate)]

    def base_classes(self, fold: int | None) -> list[int]:
        """The classes of ``splits/train.txt``."""
        return self._listed("train")

    @property
    def image_choices(self) -> dict[str, str]:
        """Whose classes are tested."""
        return {"split": self.evaluate}

    def _list_file(self, part: str) -> Path:
        """``splits/train.txt``, or HSNet's ``trn.txt`` where there is none."""
        file, other = (self.root / SPLITS / f"{name}.txt" for name in (part, OTHER_NAMES.get(part, part)))
        return file if file.is_file() or not other.is_file() else other

    def _listed(self, part: str) -> list[int]:
        """Classes of a list file; InputError if it is missing or names a class twice or without a folder."""
        number = {name: i for i, name in self.class_names.items()}
        path = self._list_file(part)
        names = files.read_lines(path)
        missing = [name for name in names if name not in number]
        if missing:
            raise InputError(
                f"{path} names {len(missing)} class(es) without a folder in {self.root}, e.g. {missing[0]}. Add the "
                "folder, or take the name out of the list."
            )
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"{path} names {twice} more than once. Keep one line of it.")
        return [number[name] for name in names]

    def images(self, split: Split, fold: int | None = 0) -> "BinaryMasks":
        """The images of the base classes, or of the novel ones."""
        return self.images_of(self.base_classes(fold) if split == "train" else self.novel_classes(fold))

    def images_of(self, classes: Iterable[int]) -> "BinaryMasks":
        """All pairs ``<class>/<n>.jpg`` and ``.png`` of the classes; InputError if a class has no image.

        Other files (the archive has some ``.jpeg``) are left alone.
        """
        names, images, masks = [], [], []
        for class_id in classes:
            folder = self.root / self.class_names[class_id]
            paths = [folder / file for file in find_files(folder, deep=False).files]
            found = [path for path in paths if path.suffix.lower() == ".jpg"]
            if not found:
                raise InputError(f"{folder} holds no .jpg. Expected {LAYOUT}.")
            found.sort(key=lambda path: (len(path.stem), path.stem))
            mask_of = {path.stem: path for path in paths if path.suffix.lower() == ".png"}
            names += [f"{folder.name}/{path.stem}" for path in found]
            images += found
            masks += [{class_id: mask_of.get(path.stem, path.with_suffix(".png"))} for path in found]
        return files.BinaryMasks(names, images, masks, as_hsnet=True)

    def index_file(self, split: Split) -> Path:
        """``mask_index/<split>.npz`` beside the class folders."""
        return self.root / files.INDEX_FOLDER / f"{split if split == 'train' else self.evaluate}.npz"

    def prepare(self, check_only: bool) -> Prepared:
        """Check, index and count. The authors distribute it through a file host; it cannot be downloaded."""
        if not self.root.is_dir() or any(not self._list_file(part).is_file() for part in FSS_EXPECTED):
            raise InputError(
                f"{self.root} is not laid out as FSS-1000. The data cannot be downloaded by a program: get the archive "
                "by the link on https://github.com/HKUSTCV/FSS-1000 and unpack it so that "
                f"{self.root}/<class>/1.jpg and 1.png exist; then write the names of the classes of each split, one "
                f"per line, to {self.root}/{SPLITS}/train.txt (520), val.txt (240) and test.txt (240). HSNet's "
                "repository has these lists in data/splits/fss/ (trn.txt, val.txt, tst.txt)."
            )
        indexes = {
            "train": Indexed.of(self, "train", "train"),
            "val": Indexed.of(replace(self, evaluate="val"), "val", "val"),
            "test": Indexed.of(replace(self, evaluate="test"), "val", "test"),
        }
        counts = [Count("classes", len(self.class_names), sum(FSS_EXPECTED.values()))]
        pairs: list[tuple[Path, ...]] = []
        for part, expected in FSS_EXPECTED.items():
            images = indexes[part].images
            pairs += [(image, *masks.values()) for image, masks in zip(images.images, images.masks, strict=True)]
            counts += [
                Count(f"{part}: classes", len(self._listed(part)), expected),
                Count(f"{part}: images", len(images.names), 10 * expected),
            ]
        with processes() as pool:
            odd = pool.map(odd_mask, *zip(*pairs, strict=True), chunksize=64)
            notices = list(progress(odd, "Looking for odd masks", len(pairs), unit="mask", leave=False))
        return Prepared(counts, indexes, [line for line in notices if line])


def odd_mask(image: Path, mask: Path) -> str | None:
    """A notice about an unusual mask that is used anyway; None if it is normal or cannot be read."""
    try:
        (height, width), (rows, columns) = files.read_image_size(image), files.read_image_size(mask)
        files.read_mask(mask, halve=True)
    except InputError:
        return None  # the index tells of it
    if (height, width) != (rows, columns):
        return f"{mask} is {columns}x{rows} px, its image {width}x{height} px: resized with nearest-neighbour"
    try:
        files.read_mask(mask)
    except InputError as error:
        return f"{error} Its brighter half is taken."
    return None
