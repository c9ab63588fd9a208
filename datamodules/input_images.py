"""Images to segment, without labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch.utils.data import DataLoader, Dataset

from datamodules.base import BaseDataModule
from datamodules.episodes.prepared import PreparedImage, prepare_image
from datamodules.files.images import first_page, stamp
from datamodules.files.pixels import read_bytes
from qgnet.common.errors import InputError
from qgnet.common.settings import Natural


class InputImage(NamedTuple):
    """An image for the network.

    Attributes:
        name: path below its folder, without ending; its results have this name.
        path: its file.
        prepared: its pixels; None if it cannot be read.
        error: the reason if it cannot be read.
        stamp: of the file, as it was before it was read.
        pages: number of pages or frames in the file; this is the first.
    """

    name: str
    path: Path
    prepared: PreparedImage | None
    error: str = ""
    stamp: Sequence[int] = ()
    pages: int = 1


class InputImages(Dataset[InputImage]):
    """Images as `prepare_image` makes them."""

    def __init__(self, files: dict[str, Path], sides: Sequence[int], tile: bool, guide_side: int | None) -> None:
        self.files = list(files.items())
        self.sides = sides
        self.tile = tile
        self.guide_side = guide_side

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def __getitem__(self, i: int) -> InputImage:
        """Image ``i``; one that cannot be read says why."""
        name, path = self.files[i]
        try:
            stamped = stamp(path)
            image, pages = first_page(path, read_bytes(path))
            prepared = prepare_image(image, self.sides, self.tile, self.guide_side)
            return InputImage(name, path, prepared, stamp=stamped, pages=pages)
        except InputError as error:
            return InputImage(name, path, None, str(error))


class InputImagesDataModule(BaseDataModule):
    """Images for ``predict``; each is segmented once by one of the processes.

    Args:
        files: name → file, see :func:`datamodules.files.image_paths.find_images`.
        sides: of the squares that images are brought to, in pixels, see `PreparedImage`.
        tile: slide the square over larger images, instead of bringing them to it.
        batch_size: images per process and step.
        num_workers: loader processes; null: one per core, but not more than 2.
        guide_side: longer side in pixels of the small copy, see `prepare_image`.
    """

    most_workers = 2

    def __init__(
        self,
        files: dict[str, Path],
        sides: Sequence[int],
        tile: bool = False,
        batch_size: int = 8,
        num_workers: Natural | None = None,
        guide_side: int | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, seed=0)
        self.allow_zero_length_dataloader_with_multiple_devices = True  # one image for several processes
        self.files = files
        self.sides = sides
        self.tile = tile
        self.guide_side = guide_side

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches are lists of images."""
        data = InputImages(self.files, self.sides, self.tile, self.guide_side)
        return self.loader(data, training=False, collate_fn=list)
