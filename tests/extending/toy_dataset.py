"""A data set in one file: squares of four colours, each image beside an index mask of its classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules import DatasetSpec
from datamodules.files import IndexMasks


@dataclass(frozen=True)
class ToyDataset(DatasetSpec):
    """A folder ``train/`` and ``val/`` of ``<name>.png`` and ``<name>.mask.png``."""

    image_size = 65
    min_class_area = 50

    root: Path

    @property
    def class_names(self) -> dict[int, str]:
        return {1: "red", 2: "green", 3: "blue", 4: "white"}

    @property
    def folds(self) -> Sequence[Sequence[int]]:
        return [[1, 2], [3, 4]]

    def images(self, split: str, fold: int | None = 0) -> IndexMasks:
        masks = sorted((self.root / split).glob("*.mask.png"))
        names = [mask.name.removesuffix(".mask.png") for mask in masks]
        images = [self.root / split / f"{name}.png" for name in names]
        return IndexMasks(names, images, masks, self.class_names)

    def index_file(self, split: str) -> Path:
        return self.root / f"{split}.npz"
