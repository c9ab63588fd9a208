"""The labelled images of a data set, one after another."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.datasets.spec import DatasetSpec, Split
from datamodules.episodes.episode import to_tensor
from qgnet.common.settings import Checked, Natural


class LabelledImage(NamedTuple):
    """An image with a mask of each class that it shows.

    Attributes:
        image: (3, H, W) uint8 RGB, at its own size.
        masks: {class number: (H, W) uint8: 1 the class, 255 what is ignored, 0 the rest}.
        name: of the image.
    """

    image: Tensor
    masks: dict[int, Tensor]
    name: str


class LabelledDataset(Dataset[LabelledImage], metaclass=Checked):
    """The images of a split of a data set, each at its own size: ``batch_size=None``, or ``collate_fn=list``."""

    prefix = "data"

    def __init__(self, dataset: DatasetSpec, split: Split = "val", fold: Natural = 0) -> None:
        dataset.check_fold(fold)
        self.class_names = dataset.class_names
        self.images = dataset.images(split, fold)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images.names)

    def __getitem__(self, i: int) -> LabelledImage:
        """Image ``i``; InputError if it or its mask is broken."""
        masks = {c: torch.from_numpy(self.images.mask(i, c).copy()) for c in self.images.facts(i).areas}
        return LabelledImage(to_tensor(self.images.image(i)), masks, self.images.names[i])
