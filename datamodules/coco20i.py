"""COCO-20i: COCO's 80 classes in four folds of twenty, as index masks drawn from the instances."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.episodic import EpisodeDataModule
from datamodules.files.index import INDEX_FOLDER
from datamodules.files.sources import IndexMasks
from datamodules.layouts import Crowds, Parts, Year
from datamodules.layouts.coco20i import COCO_CLASSES, coco_folds, coco_images, mask_folder


class Coco20iDataModule(EpisodeDataModule):
    """Episodes from COCO as `qgnet prepare coco20i` makes it; fold i holds the classes i + 1, i + 5, … or 20i + 1, ….

    Args:
        root: folder with ``train2014/``, ``val2014/`` and ``masks/``.
        year: 2014 or 2017.
        parts: of each instance, all polygons or (RePRI, FPTrans) the first only.
        crowds: instances marked as crowds are ignored (255), or background.
        image_size: side of the square that the network sees, in pixels.
        scale: range of the random scaling in training.
        **kwargs: settings of every EpisodeDataModule.
    """

    useless_choices = ("episodes",)

    def __init__(
        self,
        root: str = "data/coco",
        year: Year = 2014,
        parts: Parts = "full",
        crowds: Crowds = "ignore",
        image_size: int = 641,
        scale: tuple[float, float] = (0.8, 1.25),
        **kwargs: Any,
    ) -> None:
        super().__init__(image_size=image_size, scale=scale, **kwargs)
        self.root = Path(root)
        self.year = year
        self.parts = parts
        self.crowds = crowds
        self.masks = self.root / "masks" / mask_folder(parts, crowds)

    @property
    def default_episodes(self) -> int:
        """The protocol's number for COCO."""
        assert self.protocol.coco_episodes is not None
        return self.protocol.coco_episodes

    @property
    def class_names(self) -> dict[int, str]:
        """COCO's 80 classes in category order, 1 … 80."""
        return dict(enumerate(COCO_CLASSES, start=1))

    @property
    def folds(self) -> Sequence[Sequence[int]]:
        """Four folds of twenty classes, interleaved or contiguous as the protocol says."""
        return coco_folds(self.protocol.coco_folds == "interleaved")

    @property
    def image_choices(self) -> dict[str, Any]:
        """Which year's, and how the masks were drawn."""
        return {"year": self.year, "parts": self.parts, "crowds": self.crowds}

    def source(self, split: str) -> IndexMasks:
        """The annotated images of the split."""
        return coco_images(self.root, f"{split}{self.year}", self.masks)

    def index_file(self, split: str) -> Path:
        """``mask_index/<split>.npz`` beside the masks."""
        return self.masks / INDEX_FOLDER / f"{split}{self.year}.npz"
