"""Your own images and masks."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datamodules.episodes.protocols import Protocol
from datamodules.episodic import EpisodeDataModule
from datamodules.files.index import INDEX_FOLDER, MaskIndex
from datamodules.files.sources import BinaryMasks, IndexMasks, LabelledImages
from datamodules.layouts.folder import check_classes, folder_classes, folder_images
from qgnet.common.errors import InputError


class FolderDataModule(EpisodeDataModule):
    """Episodes from your own folder: ``images/`` and ``masks/``.

    Masks are either index masks, ``masks/<name>.png`` whose pixels are the class numbers of ``classes.yaml`` (0
    background, 255 ignore), or binary masks, one ``masks/<class>/<name>.png`` per class that an image shows. Where
    ``classes.yaml`` names 255 alone, ``masks/<name>.png`` are binary masks of that one class.

    Training and test share the folder, but no image: those that show a novel class are tested on, and never
    trained on, whatever the protocol.

    Args:
        root: folder with ``images/`` and ``masks/``.
        novel: names of the novel classes, never labelled in training; all others are base classes. Empty: all are
            novel, for a test without training.
        min_class_area: pixels a class must cover in an image to count there.
        protocol: a name and single choices that replace its own; ``novel_in_training`` is always ``drop``.
        mask_suffix: what follows an image's name in its mask's, e.g. ``_mask`` for ``a.jpg`` and ``a_mask.png``.
        **kwargs: settings of every EpisodeDataModule.
    """

    def __init__(
        self,
        root: str = "data/folder",
        novel: Sequence[str] = (),
        min_class_area: int = 1,
        mask_suffix: str = "",
        protocol: Protocol = Protocol(),  # noqa: B008  (frozen)
        **kwargs: Any,
    ) -> None:
        if protocol.novel_in_training not in (None, "drop"):
            raise InputError(
                f"data.protocol.novel_in_training is {protocol.novel_in_training}, which would train on images "
                "that are tested on: a folder has no others with novel classes. Take it out: they are dropped."
            )
        protocol = replace(protocol, novel_in_training="drop")
        super().__init__(min_class_area=min_class_area, protocol=protocol, **kwargs)
        self.root = Path(root)
        self.novel = list(novel)
        self.mask_suffix = mask_suffix
        self._names: dict[int, str] = {}
        self._source: IndexMasks | BinaryMasks | None = None

    @property
    def class_names(self) -> dict[int, str]:
        """As in ``classes.yaml``, or the mask folders in alphabetical order from 1."""
        if not self._names:
            self._names = folder_classes(self.root)
        return self._names

    @property
    def folds(self) -> Sequence[Sequence[int]]:
        """One fold: the classes named by ``novel``."""
        number = {name: i for i, name in self.class_names.items()}
        unknown = [name for name in self.novel if name not in number]
        if unknown:
            raise InputError(
                f"data.novel names {unknown[0]}, but {self.root} has the classes {', '.join(number)}. Choose of these."
            )
        return [[number[name] for name in self.novel] or list(self.class_names)]

    def setup(self, stage: str) -> None:
        """As in every episodic DataModule; InputError if there is no base class to train on."""
        if stage == "fit" and not self.base_classes:
            raise InputError(
                "Training needs base classes: name the novel ones with --data.novel (e.g. '[cat, dog]'); all other "
                "classes of the folder are base classes."
            )
        super().setup(stage)

    def source(self, split: str) -> IndexMasks | BinaryMasks:
        """All labelled images."""
        if self._source is None:
            self._source = folder_images(self.root, self.mask_suffix)
        return self._source

    def index(self, source: LabelledImages, split: str) -> MaskIndex:
        """As in every episodic DataModule; InputError if no mask holds an object."""
        index = super().index(source, split)
        check_classes(self.source(split), index)
        return index

    def index_file(self, split: str) -> Path:
        """``mask_index/folder.npz`` beside the images."""
        return self.root / INDEX_FOLDER / "folder.npz"
