"""What makes two results comparable; recorded in ``results.json`` and compared by ``qgnet report``.

Compared are data set, test images (with the choices that their masks were drawn by), the classes of every fold, shots,
protocol, number of episodes or their manifest, image size, smallest object, and classes that were trained on though
tested as novel. Folds are a table's columns and seeds its ±. Where the data lie, and controls of absent classes
(``negative``), which no score counts, are recorded but not compared.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.datasets.protocols import Protocol
from qgnet.common.digest import sha256

if TYPE_CHECKING:  # `qgnet report` starts without Lightning
    from datamodules.episodic import EpisodeDataModule

MANIFEST = " of a manifest"
NAMED = 8
"""As many classes are named in a table's title; more are counted, with a digest."""


def conditions(data: "EpisodeDataModule", episodes: int, trained_classes: Sequence[str] | None) -> dict[str, Any]:
    """The part of ``results.json`` that says what was tested.

    Args:
        data: after its ``setup``.
        episodes: how many were scored; fewer than ``data.episodes`` with ``--trainer.limit_test_batches``.
        trained_classes: novel classes that the network was trained on; None if its checkpoint does not say.
    """
    return {
        "data": data.dataset_name,
        "root": str(data.dataset.root) if hasattr(data.dataset, "root") else None,
        "images": data.test_images(),
        "fold": data.fold,
        "folds": len(data.folds),
        "classes": [[data.class_names[number] for number in fold] for fold in data.folds],
        "trained_classes": trained_classes,
        "shots": data.shots,
        "seed": data.seed,
        "episodes": episodes,
        "episode_file": data.episode_file,
        "episode_file_sha256": sha256(Path(data.episode_file)) if data.episode_file else None,
        "protocol": asdict(data.protocol),
        "negative": data.negative,
        "image_size": data.image_size,
        "min_class_area": data.min_class_area,
    }


@dataclass(frozen=True)
class Setting:
    """What two tests must share to be in one table: the DataModule's name, all other choices in words, …."""

    data: str
    choices: str
    folds: int
    shots: int

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> "Setting":
        """The setting of a ``results.json``; old files lack images and classes."""
        parts = [*protocol_words(result["protocol"]), episode_words(result)]
        parts += [f"{result['image_size']} px", f"objects of {result['min_class_area']} px and more"]
        parts += image_words(result.get("images") or {}) + class_words(result.get("classes") or [])
        if result.get("trained_classes"):
            parts.append(f"on classes that were trained on: {', '.join(result['trained_classes'])}")
        return cls(result["data"], ", ".join(parts), result["folds"], result["shots"])

    @property
    def of_manifest(self) -> bool:
        """Whether a manifest lists the episodes, so that the seed does not matter."""
        return MANIFEST in self.choices


def protocol_words(given: Mapping[str, Any]) -> list[str]:
    """A protocol's name and the choices that are not its own."""
    named = asdict(Protocol(name=given["name"]).resolved())
    silent = ("name", "episodes", "coco_episodes", "seeds")
    own = [f"{key} {value}" for key, value in given.items() if key not in silent and value != named[key]]
    return [f"protocol {' with '.join([given['name'], *own[:1]])}", *own[1:]]


def episode_words(result: Mapping[str, Any]) -> str:
    """Their number, and which manifest they are of."""
    words = f"{result['episodes']} episodes"
    if result["episode_file"]:
        words += f"{MANIFEST} {(result.get('episode_file_sha256') or '')[:8]}".rstrip()
    return words


def image_words(images: Mapping[str, Any]) -> list[str]:
    """What :meth:`EpisodeDataModule.test_images` gives."""
    words = [f"{key} {value}" for key, value in images.items() if key not in ("number", "sha256")]
    return [*words, f"{images['number']} images {images['sha256'][:8]}"] if "sha256" in images else words


def class_words(folds: Sequence[Sequence[str]]) -> list[str]:
    """The novel classes of all folds: their names if they are few."""
    if not folds:
        return []
    if len(folds) == 1 and len(folds[0]) <= NAMED:
        return [f"novel {', '.join(folds[0])}"]
    digest = hashlib.sha256(json.dumps(folds).encode()).hexdigest()[:8]
    return [f"{' + '.join(str(len(fold)) for fold in folds)} novel classes {digest}"]
