"""The training classes of a network: a test on them would not be a test on novel classes."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from datamodules.episodic import EpisodeDataModule
from datamodules.files.classes import canonical_class
from qgnet.common.errors import some

CLASSES = "classes"
"""Key in a checkpoint for the training classes."""


@dataclass(frozen=True)
class TrainedClasses:
    """The classes of a training, by name.

    Args:
        data: names of the DataModules.
        base: the training classes.
        novel: the classes excluded from training.
    """

    data: tuple[str, ...]
    base: tuple[str, ...]
    novel: tuple[str, ...]

    @classmethod
    def of(cls, data: EpisodeDataModule, earlier: "TrainedClasses | None") -> "TrainedClasses":
        """The classes of a training on ``data``, with those of an earlier training that it resumes."""
        modules, base = [data.dataset_name], names(data, data.base_classes)
        if earlier is not None:
            modules, base = [*earlier.data, *modules], [*earlier.base, *base]
        return cls(tuple(dict.fromkeys(modules)), tuple(dict.fromkeys(base)), tuple(names(data, data.novel_classes)))

    @classmethod
    def read(cls, checkpoint: dict[str, Any]) -> "TrainedClasses | None":
        """The classes in a checkpoint; None if an older version wrote it without them."""
        found = checkpoint.get(CLASSES)
        return cls(**{key: tuple(value) for key, value in found.items()}) if found else None

    def write(self, checkpoint: dict[str, Any]) -> None:
        """Save the classes in a checkpoint."""
        checkpoint[CLASSES] = {key: list(value) for key, value in asdict(self).items()}

    def among_novel(self, data: EpisodeDataModule) -> list[str]:
        """The novel classes of ``data`` that were trained on; for another data set, spellings may differ."""
        word = str.casefold if self.data == (data.dataset_name,) else canonical_class
        trained = {word(name) for name in self.base}
        return [name for name in names(data, data.novel_classes) if word(name) in trained]

    def message(self, leaked: Sequence[str]) -> str:
        """The message about novel classes that were trained on."""
        return (
            f"{some(leaked)}: asked for as novel, but this checkpoint was trained on "
            f"{'it' if len(leaked) == 1 else 'them'} ({', '.join(self.data)}; it kept {some(self.novel)} out)."
        )


def names(data: EpisodeDataModule, numbers: Iterable[int]) -> list[str]:
    """The names of classes by their numbers."""
    return [data.class_names[number] for number in numbers]
