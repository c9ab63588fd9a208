"""Images for the figures of prior maps, and for their scores if masks are given."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.episodes.episode import to_tensor
from datamodules.files import find_files, read_index_mask
from datamodules.files.finding import files_by_name, normalized_name
from datamodules.files.sources import IGNORE, Array
from datamodules.views.region_maps import Images
from qgnet.common.errors import InputError


class ObjectImages(NamedTuple):
    """A batch of B images.

    Attributes:
        image: (B, 3, S, S) uint8, resized to a square.
        objects: (B, S, S) uint8: 1 any object, 0 background, 255 ignored or unknown.
        name: B names.
    """

    image: Tensor
    objects: Tensor
    name: list[str]


class ObjectImageDataset(Dataset[ObjectImages]):
    """Images resized to a square, with the union of all their masks.

    ``labels`` returns (H, W) uint8 class numbers of an image, 0 background, 255 ignored; None without masks.
    """

    def __init__(
        self, source: Images, members: Sequence[int], labels: Callable[[int], Array] | None, side: int
    ) -> None:
        self.source = source
        self.members = members
        self.labels = labels
        self.side = side

    def __len__(self) -> int:
        """Number of images."""
        return len(self.members)

    def __getitem__(self, i: int) -> ObjectImages:
        """Image ``i`` of the members."""
        member = self.members[i]
        image = self.source.image(member)
        labels = np.full(image.shape[:2], IGNORE, np.uint8) if self.labels is None else self.labels(member)
        objects = np.where(labels == IGNORE, IGNORE, labels > 0).astype(np.uint8)
        size = (self.side, self.side)
        squashed = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        target = torch.from_numpy(cv2.resize(objects, size, interpolation=cv2.INTER_NEAREST))
        return ObjectImages(to_tensor(squashed), target, [self.source.names[member]])


def collate_object_images(images: Sequence[ObjectImages]) -> ObjectImages:
    """Single images → one batch."""
    return ObjectImages(
        image=torch.stack([p.image for p in images]),
        objects=torch.stack([p.objects for p in images]),
        name=[p.name[0] for p in images],
    )


class MaskFolder:
    """Index masks in a folder, found by the names of images {number: name}; InputError if one is missing."""

    def __init__(self, root: Path, names: Mapping[int, str]) -> None:
        if not root.is_dir():
            raise InputError(f"data.mask_root is {root}, which is not a folder. Give a folder of masks.")
        found = files_by_name(root, find_files(root, deep=False).files)
        self.paths = {
            i: found.get(normalized_name(Path(name).stem), root / f"{Path(name).stem}.png") for i, name in names.items()
        }
        missing = [path for path in self.paths.values() if not path.is_file()]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(names)} images have no mask in data.mask_root, e.g. {missing[0]}. Name those "
                "that have one in data.mask_list, or take data.mask_root out."
            )

    def labels(self, i: int) -> Array:
        """(H, W) uint8 class numbers, 0 background, 255 ignored; InputError if the mask is broken."""
        return read_index_mask(self.paths[i])
