"""FSS-1000: 1,000 classes of ten images each, one binary mask per image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from datamodules.base import INDEX_FOLDER, EpisodeDataModule
from datamodules.errors import InputError
from datamodules.sources import BinaryMasks, read_list, require_folder

SPLITS = "splits"
LAYOUT = "FSS-1000's folders: <class>/1.jpg … 10.jpg, each with its mask <class>/1.png … 10.png, and splits/*.txt"


class Fss1000DataModule(EpisodeDataModule):
    """Episodes from FSS-1000; base classes are those of ``splits/train.txt``.

    Args:
        root: folder of the class folders and of ``splits/{train,val,test}.txt``, a class name per line.
        evaluate: whose classes are novel: ``test``, or ``val`` to choose a checkpoint without looking at the test.
        image_size: side of the square that the network sees, in pixels, of the form 8n + 1.
        min_class_area: pixels a class must cover in an image to count there.
        **kwargs: settings of every EpisodeDataModule.
    """

    def __init__(
        self,
        root: str = "data/fss1000",
        evaluate: Literal["val", "test"] = "test",
        image_size: int = 225,
        min_class_area: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_size=image_size, min_class_area=min_class_area, **kwargs)
        self.root = Path(root)
        self.evaluate = evaluate
        self._names: dict[int, str] = {}

    @property
    def class_names(self) -> dict[int, str]:
        """The class folders in alphabetical order, 1 … 1000."""
        if not self._names:
            self._names = dict(enumerate(class_folders(self.root), start=1))
        return self._names

    @property
    def folds(self) -> Sequence[Sequence[int]]:
        """One fold: the classes of ``splits/test.txt`` (or ``val.txt``)."""
        return [self._listed(self.evaluate)]

    @property
    def base_classes(self) -> list[int]:
        """The classes of ``splits/train.txt``."""
        return self._listed("train")

    def _listed(self, split: str) -> list[int]:
        number = {name: i for i, name in self.class_names.items()}
        return [number[name] for name in split_classes(self.root, split, number)]

    def source(self, split: str) -> BinaryMasks:
        """The images of the base classes, or of the novel ones."""
        classes = self.base_classes if split == "train" else self.novel_classes
        return fss_images(self.root, {c: self.class_names[c] for c in classes})

    def index_file(self, split: str) -> Path:
        """``mask_index/<split>.npz`` beside the class folders."""
        return self.root / INDEX_FOLDER / f"{split if split == 'train' else self.evaluate}.npz"


def class_folders(root: Path) -> list[str]:
    """Names of all class folders, sorted; InputError if there is none."""
    require_folder(root, "data.root", LAYOUT)
    found = sorted(path.name for path in root.iterdir() if path.is_dir() and path.name not in (SPLITS, INDEX_FOLDER))
    if not found:
        raise InputError(f"{root} holds no class folder. Expected {LAYOUT}. Point --data.root to it.")
    return found


def split_classes(root: Path, split: str, known: dict[str, int]) -> list[str]:
    """Class names of one split; InputError if the list is missing or names a class without a folder."""
    path = root / SPLITS / f"{split}.txt"
    names = read_list(path)
    missing = [name for name in names if name not in known]
    if missing:
        raise InputError(
            f"{path} names {len(missing)} class(es) without a folder in {root}, e.g. {missing[0]}. Add the folder, or "
            "take the name out of the list."
        )
    return names


def fss_images(root: Path, classes: dict[int, str]) -> BinaryMasks:
    """All pairs ``<class>/<n>.jpg`` and ``.png`` of the classes; InputError if a class has no image."""
    names, images, masks = [], [], []
    for class_id, name in classes.items():
        found = sorted((root / name).glob("*.jpg"), key=lambda path: (len(path.stem), path.stem))
        if not found:
            raise InputError(f"{root / name} holds no .jpg. Expected {LAYOUT}.")
        names += [f"{name}/{path.stem}" for path in found]
        images += found
        masks += [{class_id: path.with_suffix(".png")} for path in found]
    return BinaryMasks(names, images, masks)
