"""PASCAL-5i: VOC 2012 with SBD's masks, 20 classes in four folds of five."""

from collections.abc import Sequence
from pathlib import Path

from datamodules.base import EpisodeDataModule
from datamodules.sources import VocImages

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


class Pascal5iDataModule(EpisodeDataModule):
    """Episodes from a VOC-layout folder; fold i holds the classes 5i + 1 … 5i + 5.

    Novel-class pixels in training images are background, as in PFENet and QGNet.

    Args:
        root: folder with ``JPEGImages/``, ``SegmentationClassAug/`` and ``ImageSets/Segmentation/``.
        fold: which classes are novel, 0 … 3.
        shots: supports per episode, K.
        seed: of the episodes and their augmentation.
        episodes: number of validation and of test episodes.
        batch_size: episodes per process and step.
        num_workers: loader processes.
        image_size: side of the square that the network sees, in pixels, of the form 8n + 1.
        min_class_area: pixels a class must cover in an image to count there.
        scale: range of the random scaling in training.
        train_episodes: episodes per training epoch; null: one per training image.
        train_list: list file of the training images, without ``.txt``.
        val_list: list file of the validation and test images, without ``.txt``.
    """

    def __init__(
        self,
        root: str = "data/pascal",
        fold: int = 0,
        shots: int = 1,
        seed: int = 321,
        episodes: int = 1000,
        batch_size: int = 4,
        num_workers: int = 4,
        image_size: int = 473,
        min_class_area: int = 2048,
        scale: tuple[float, float] = (0.9, 1.1),
        train_episodes: int | None = None,
        train_list: str = "train",
        val_list: str = "val",
    ) -> None:
        super().__init__(
            fold, shots, seed, episodes, batch_size, num_workers, image_size, min_class_area, scale, train_episodes
        )
        self.root = Path(root)
        self.lists = {"train": train_list, "val": val_list}

    @property
    def class_names(self) -> dict[int, str]:
        """VOC's 20 classes, 1 … 20."""
        return dict(enumerate(VOC_CLASSES, start=1))

    @property
    def folds(self) -> Sequence[Sequence[int]]:
        """[1 … 5], [6 … 10], [11 … 15], [16 … 20]."""
        return [range(5 * i + 1, 5 * i + 6) for i in range(4)]

    def source(self, split: str) -> VocImages:
        """The images that the split's list names."""
        return VocImages(self.root, self.lists[split])
