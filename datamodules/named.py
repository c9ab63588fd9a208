"""DataModules of the data sets that `qgnet prepare` knows, with their own settings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from datamodules.datasets.coco20i import Coco20i, Year
from datamodules.datasets.folder import LabelledFolder, NamedFolder
from datamodules.datasets.fss1000 import Fss1000
from datamodules.datasets.pascal5i import Pascal5i
from datamodules.datasets.protocols import Protocol
from datamodules.datasets.synthetic import Synthetic
from datamodules.episodic import EpisodeDataModule
from datamodules.prepare.choices import Crowds, Parts
from qgnet.common.settings import Count, Scale, Side


class Pascal5iDataModule(EpisodeDataModule):
    """Episodes from a VOC-layout folder (`qgnet prepare pascal5i` makes it); fold i holds classes 5i + 1 … 5i + 5.

    Args:
        root: folder with ``JPEGImages/``, ``SegmentationClassAug/`` and ``ImageSets/Segmentation/``.
        train_list: list file of the training images, without ``.txt``.
        val_list: list file of the validation and test images, without ``.txt``.
        image_size: side of the square that the network sees, in pixels.
        min_class_area: pixels a class must cover in an image to count there.
        scale: range of the random scaling in training.
        **kwargs: settings of every EpisodeDataModule.
    """

    def __init__(
        self,
        root: str = str(Pascal5i.root),
        train_list: str = Pascal5i.train_list,
        val_list: str = Pascal5i.val_list,
        image_size: Side = Pascal5i.image_size,
        min_class_area: Count = Pascal5i.min_class_area,
        scale: Scale = Pascal5i.scale,
        **kwargs: Any,
    ) -> None:
        dataset = Pascal5i(Path(root), train_list, val_list)
        super().__init__(dataset, image_size=image_size, min_class_area=min_class_area, scale=scale, **kwargs)


class Coco20iDataModule(EpisodeDataModule):
    """Episodes from COCO as `qgnet prepare coco20i` makes it; fold i holds the classes i + 1, i + 5, … or 20i + 1, ….

    Args:
        root: folder with ``train2014/``, ``val2014/`` and ``masks/``.
        year: 2014 or 2017.
        parts: of each instance, all polygons or (RePRI, FPTrans) the first only.
        crowds: instances marked as crowds are ignored (255), or background.
        image_size: side of the square that the network sees, in pixels.
        min_class_area: pixels a class must cover in an image to count there.
        scale: range of the random scaling in training.
        **kwargs: settings of every EpisodeDataModule.
    """

    def __init__(
        self,
        root: str = str(Coco20i.root),
        year: Year = Coco20i.year,
        parts: Parts = Coco20i.parts,
        crowds: Crowds = Coco20i.crowds,
        image_size: Side = Coco20i.image_size,
        min_class_area: Count = Coco20i.min_class_area,
        scale: Scale = Coco20i.scale,
        **kwargs: Any,
    ) -> None:
        dataset = Coco20i(Path(root), year, parts, crowds)
        super().__init__(dataset, image_size=image_size, min_class_area=min_class_area, scale=scale, **kwargs)


class Fss1000DataModule(EpisodeDataModule):
    """Episodes from FSS-1000; base classes are those of ``splits/train.txt``.

    Args:
        root: folder of the class folders and of ``splits/{train,val,test}.txt``, a class name per line.
        evaluate: the split of the novel classes: ``test``, or ``val`` to choose a checkpoint without test classes.
        image_size: side of the square that the network sees, in pixels.
        min_class_area: pixels a class must cover in an image to count there.
        scale: range of the random scaling in training.
        **kwargs: settings of every EpisodeDataModule.
    """

    def __init__(
        self,
        root: str = str(Fss1000.root),
        evaluate: Literal["val", "test"] = Fss1000.evaluate,
        image_size: Side = Fss1000.image_size,
        min_class_area: Count = Fss1000.min_class_area,
        scale: Scale = Fss1000.scale,
        **kwargs: Any,
    ) -> None:
        dataset = Fss1000(Path(root), evaluate)
        super().__init__(dataset, image_size=image_size, min_class_area=min_class_area, scale=scale, **kwargs)


class FolderDataModule(EpisodeDataModule):
    """Episodes from your own folder: ``images/`` and ``masks/``.

    Masks are either index masks, ``masks/<name>.png`` whose pixels are the class numbers of ``classes.yaml`` (0
    background, 255 ignore), or binary masks, one ``masks/<class>/<name>.png`` per class that an image shows. Where
    ``classes.yaml`` names 255 alone, ``masks/<name>.png`` are binary masks of that one class.

    Training and test share the folder, but no image: images with a novel class are used for the test and, whatever
    the protocol, never for training.

    Args:
        root: folder with ``images/`` and ``masks/``.
        novel: names of the novel classes, never labelled in training; all others are base classes. Empty: all are
            novel, for a test without training.
        mask_suffix: suffix of mask names, e.g. ``_mask`` for ``a.jpg`` and ``a_mask.png``.
        image_size: side of the square that the network sees, in pixels.
        min_class_area: pixels a class must cover in an image to count there.
        scale: range of the random scaling in training.
        protocol: a name and single choices that replace its own; ``novel_in_training`` is always ``drop``.
        **kwargs: settings of every EpisodeDataModule.
    """

    def __init__(
        self,
        root: str = str(LabelledFolder.root),
        novel: Sequence[str] = LabelledFolder.novel,
        mask_suffix: str = LabelledFolder.mask_suffix,
        image_size: Side = LabelledFolder.image_size,
        min_class_area: Count = LabelledFolder.min_class_area,
        scale: Scale = LabelledFolder.scale,
        protocol: Protocol = Protocol(),  # noqa: B008  (frozen)
        **kwargs: Any,
    ) -> None:
        super().__init__(
            NamedFolder(Path(root), novel, mask_suffix),
            image_size=image_size,
            min_class_area=min_class_area,
            scale=scale,
            protocol=protocol,
            **kwargs,
        )


class SyntheticDataModule(EpisodeDataModule):
    """Episodes from built-in scenes; training scenes show base classes only.

    Args:
        scenes: number of training scenes; a quarter as many for the test.
        batch_size: episodes per process and step.
        image_size: side of the scenes in pixels.
        min_class_area: pixels a class must cover in a scene to count there.
        scale: range of the random scaling in training.
        **kwargs: settings of every EpisodeDataModule.
    """

    most_workers = 2

    def __init__(
        self,
        scenes: Count = Synthetic.scenes,
        batch_size: Count = 8,
        image_size: Side = Synthetic.image_size,
        min_class_area: Count = Synthetic.min_class_area,
        scale: Scale = Synthetic.scale,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            Synthetic(scenes, image_size),
            batch_size=batch_size,
            image_size=image_size,
            min_class_area=min_class_area,
            scale=scale,
            **kwargs,
        )
