"""Photographs without any label, to be segmented: folders of them, files or patterns."""

from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Any, NamedTuple

from torch.utils.data import DataLoader, Dataset

from datamodules.base import BaseDataModule
from datamodules.episodes.fitted import Fitted, fit_picture
from datamodules.files import find_files, read_picture
from qgnet.common.errors import InputError


class Photograph(NamedTuple):
    """A photograph as it goes through the network.

    Attributes:
        name: its path below the folder it was found in, without ending; names its results.
        path: its file.
        fitted: its pixels; None if it cannot be read.
        error: why it cannot be read.
    """

    name: str
    path: Path
    fitted: Fitted | None
    error: str = ""


class PhotographsToSegment(Dataset[Photograph]):
    """Photographs brought to the network's square, one after another.

    Args:
        files: name → file.
        side: of the network's square, in pixels.
        tile: slide the square over larger photographs.
    """

    def __init__(self, files: dict[str, Path], side: int, tile: bool) -> None:
        self.files = list(files.items())
        self.side = side
        self.tile = tile

    def __len__(self) -> int:
        """Number of photographs."""
        return len(self.files)

    def __getitem__(self, i: int) -> Photograph:
        """Photograph ``i``; one that cannot be read says why."""
        name, path = self.files[i]
        try:
            return Photograph(name, path, fit_picture(read_picture(path), self.side, self.tile))
        except InputError as error:
            return Photograph(name, path, None, str(error))


class PhotographsDataModule(BaseDataModule):
    """Photographs for ``predict``, each once over all processes.

    Args:
        files: name → file, see `find_photographs`.
        image_size: side of the network's square, in pixels.
        tile: slide the square over larger photographs, instead of bringing them to it.
        batch_size: photographs per process and step.
        num_workers: loader processes.
    """

    def __init__(
        self, files: dict[str, Path], image_size: int, tile: bool = False, batch_size: int = 8, num_workers: int = 2
    ) -> None:
        super().__init__(batch_size, num_workers, seed=0)
        self.allow_zero_length_dataloader_with_multiple_devices = True  # one photograph for several processes
        self.files = files
        self.image_size = image_size
        self.tile = tile

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches are lists of photographs."""
        data = PhotographsToSegment(self.files, self.image_size, self.tile)
        return self.loader(data, training=False, collate_fn=list)


def find_photographs(given: Sequence[str], out: Path) -> dict[str, Path]:
    """Name → file of all photographs that folders, files and patterns (``*.jpg``, ``**``) stand for.

    Args:
        given: of the user.
        out: where results will go; nothing of it may be among the photographs.

    Raises:
        InputError: if one does not exist, there is no photograph, ``out`` lies in a folder of photographs or holds one,
            or the results of two photographs would have one name.
    """
    pairs = [pair for one in given for pair in _photographs(one, out)]
    stems = [path.with_suffix("").as_posix() for path, _ in pairs]
    several = {stem for stem in stems if stems.count(stem) > 1} if len(set(stems)) < len(stems) else set()
    files: dict[str, Path] = {}
    for (relative, path), stem in zip(pairs, stems, strict=True):
        name = relative.as_posix() if stem in several else stem
        if name in files and files[name] != path:
            raise InputError(
                f"{files[name]} and {path} would have one name in {out}. Segment their folders one after the "
                "other, each to an --out of its own."
            )
        files[name] = path
    return files


def _photographs(given: str, out: Path) -> list[tuple[Path, Path]]:
    """(path below the folder given, file) of each photograph."""
    path = Path(given)
    if path.is_dir():
        if out.resolve().is_relative_to(path.resolve()):
            raise InputError(
                f"--out {out} lies in the folder of photographs {path}: the results would be taken for photographs "
                "next time. Choose a folder beside it."
            )
        found = find_files(path)
        if not found.files:
            raise InputError(f"{path} holds no photographs. {found.told(path)}".strip())
        return [(Path(name), path / name) for name in found.files]
    pattern = not path.exists() and has_magic(given)
    files = [Path(file) for file in sorted(glob(given, recursive=True))] if pattern else [path]
    files = [file for file in files if file.is_file()]
    if not files:
        raise InputError(f"{given} stands for no photograph. Give a folder, a file or a pattern ('photos/*.jpg').")
    for file in files:
        if out.resolve() == file.resolve().parent:
            raise InputError(f"--out {out} is the folder of the photograph {file}. Choose another folder.")
    return [(Path(file.name), file) for file in files]
