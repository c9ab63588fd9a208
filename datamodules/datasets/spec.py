"""The interface of a data set: one object, in one file, without torch and Lightning."""

import argparse
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from datamodules import files
from qgnet.common.errors import InputError
from qgnet.common.paths import expanded
from qgnet.common.settings import Checked
from qgnet.common.terminal import say

if TYPE_CHECKING:
    from datamodules.datasets.counts import Prepared
    from datamodules.datasets.protocols import Protocol
    from datamodules.files.index import MaskIndex
    from datamodules.files.sources import LabelledImages

Split = Literal["train", "val"]
"""``val`` is the test, too."""


class DatasetSpec(metaclass=Checked):
    """A data set for few-shot segmentation: its classes and folds, its images and masks, and its defaults.

    A subclass defines ``class_names``, ``folds`` and ``images``. The rest is optional.

    Attributes:
        prefix: of its settings' names in messages: where they stand as settings of an EpisodeDataModule.
        image_size: default side of the square that the network sees, in pixels.
        scale: default range of the random scaling in training.
        min_class_area: default of the pixels that a class must cover in an image to count there.
        fixed_images: whether the test's images are the same with every seed.
        unused_choices: choices of the protocol that have no effect on these data.
    """

    prefix = "data.dataset"
    image_size: int = 473
    scale: ClassVar[tuple[float, float]] = (0.9, 1.1)
    min_class_area: ClassVar[int] = 2048
    fixed_images: ClassVar[bool] = True
    unused_choices: ClassVar[Sequence[str]] = ("coco_folds", "coco_episodes")

    @property
    @abstractmethod
    def class_names(self) -> Mapping[int, str]:
        """Class number, 1 … 254 in index masks, → name, for every class."""

    @property
    @abstractmethod
    def folds(self) -> Sequence[Sequence[int]]:
        """The novel classes of each fold."""

    @abstractmethod
    def images(self, split: Split, fold: int | None = 0) -> "LabelledImages":
        """The images and masks of a split; of most data sets they are the same in every fold."""

    def novel_classes(self, fold: int | None) -> list[int]:
        """The classes that are tested on; of fold None no class is novel."""
        return [] if fold is None else list(self.folds[fold])

    def base_classes(self, fold: int | None) -> list[int]:
        """The classes that are trained on: all but the novel ones."""
        novel = set(self.novel_classes(fold))
        return [c for c in self.class_names if c not in novel]

    def check_fold(self, fold: int | None) -> None:
        """Raise InputError for a fold that does not exist, or that has a class which is base and novel."""
        if fold is not None and not 0 <= fold < len(self.folds):
            raise InputError(f"data.fold is {fold}; there are the folds 0 … {len(self.folds) - 1}.")
        both = sorted(set(self.base_classes(fold)) & set(self.novel_classes(fold)))
        if both:
            raise InputError(
                f"{self.class_names[both[0]]} is a base class and a novel class ({len(both)} such class(es)). Take it "
                "out of one of the lists."
            )

    def index_file(self, split: Split) -> Path | None:
        """Where the index of a split's masks is stored; None: nowhere."""
        return None

    def index(self, images: "LabelledImages", split: Split) -> "MaskIndex":
        """The index of a split's masks, stored in ``index_file`` if there is one.

        Raises:
            InputError: if an image or mask is bad, and `qgnet prepare --skip-bad` has not ended well since.
        """
        file, title = self.index_file(split), f"Reading the masks of {split}"
        index = files.MaskIndex.cached(images, file, title) if file else files.MaskIndex.build(images, title)
        if not index.accepted:
            index.raise_bad(" `qgnet prepare --skip-bad` leaves bad files out." if file else "")
        elif index.bad:
            say(f"{len(index.bad)} bad image(s) of {split} are left out, as `qgnet prepare` was told.")
        return index

    @property
    def image_choices(self) -> Mapping[str, Any]:
        """How the test's images and masks were chosen, in words, for ``results.json``."""
        return {}

    def adapt_protocol(self, protocol: "Protocol") -> "Protocol":
        """The protocol for these data; InputError for a choice that would be wrong."""
        return protocol

    def with_protocol(self, protocol: "Protocol", seed: int) -> "DatasetSpec":
        """This data set under a resolved protocol and a seed, for those that depend on them."""
        return self

    def test_episodes(self, protocol: "Protocol") -> int:
        """Number of test episodes by a resolved protocol."""
        assert protocol.episodes is not None
        return protocol.episodes


class PreparableDataset(DatasetSpec):
    """A data set in a folder that ``qgnet prepare`` prepares; a frozen dataclass.

    Attributes:
        root: its folder; ``~`` and ``$VARIABLES`` are replaced.
    """

    root: Path

    def __post_init__(self) -> None:
        """The root as a Path, also where a text was given."""
        object.__setattr__(self, "root", expanded(self.root))

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Options of ``qgnet prepare`` for parameters besides ``root``, by their names."""

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> "PreparableDataset":
        """The data set that ``qgnet prepare`` was asked for."""
        return cls(**{name: value for name, value in vars(options).items() if name in cls.__dataclass_fields__})  # type: ignore[attr-defined]

    @abstractmethod
    def prepare(self, check_only: bool) -> "Prepared":
        """Download, convert, index and count; finished steps are skipped.

        Raises:
            InputError: if something is missing and cannot be obtained, or with ``check_only`` if anything is missing.
        """
