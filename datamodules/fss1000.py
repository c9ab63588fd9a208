"""FSS-1000: 1,000 classes of ten images each, one binary mask per image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from datamodules.episodes.classes import check_printable
from datamodules.episodic import EpisodeDataModule
from datamodules.files.index import INDEX_FOLDER
from datamodules.layouts.fss1000 import FssMasks, class_folders, fss_images, split_classes


class Fss1000DataModule(EpisodeDataModule):
    """Episodes from FSS-1000; base classes are those of ``splits/train.txt``.

    Args:
        root: folder of the class folders and of ``splits/{train,val,test}.txt``, a class name per line.
        evaluate: whose classes are novel: ``test``, or ``val`` to choose a checkpoint without looking at the test.
        image_size: side of the square that the network sees, in pixels.
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
            check_printable(self._names, str(self.root))
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

    @property
    def image_choices(self) -> dict[str, str]:
        """Whose classes are tested."""
        return {"split": self.evaluate}

    def source(self, split: str) -> FssMasks:
        """The images of the base classes, or of the novel ones."""
        classes = self.base_classes if split == "train" else self.novel_classes
        return fss_images(self.root, {c: self.class_names[c] for c in classes})

    def index_file(self, split: str) -> Path:
        """``mask_index/<split>.npz`` beside the class folders."""
        return self.root / INDEX_FOLDER / f"{split if split == 'train' else self.evaluate}.npz"
