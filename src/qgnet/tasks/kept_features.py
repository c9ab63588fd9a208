"""Keep features of training images on disk, because a frozen encoder's features are the same in every epoch."""

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qgnet.networks.nested_tensors import all_tensors, concatenate, map_tensors


class KeptFeatures:
    """Features of single images in float16, in memory-mapped files. Features without room are computed each time.

    All features, stored or not, are rounded to float16, so that a training does not depend on the room.

    Args:
        folder: folder of the files, created with the first features.
        max_bytes: most bytes of all files together.

    Attributes:
        rows: key of an image → its row in the files.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.rows: dict[Hashable, int] = {}
        self.room = 0
        self.files: list[np.memmap[Any, Any]] = []

    def get(self, keys: Sequence[Hashable], encode: Callable[[int], Any]) -> Any:
        """Features of a batch, float32.

        Args:
            keys: one key per image.
            encode: returns the features of image i of the batch, nested tensors (1, ...) of one structure.
        """
        return concatenate([self._one(key, lambda i=i: encode(i)) for i, key in enumerate(keys)])  # type: ignore[misc]

    def _one(self, key: Hashable, encode: Callable[[], Any]) -> Any:
        if key in self.rows:
            row = self.rows[key]
            arrays = iter([torch.from_numpy(file[row : row + 1].astype(np.float32)) for file in self.files])
            return map_tensors(lambda like: next(arrays).to(like.device), self.structure)
        rounded = map_tensors(lambda feature: feature.detach().half().contiguous(), encode())
        if not self.files:
            self._open(rounded)
        if len(self.rows) < self.room:
            row = self.rows[key] = len(self.rows)
            for file, tensor in zip(self.files, all_tensors(rounded), strict=True):
                file[row] = tensor[0].cpu().numpy()
        return map_tensors(lambda feature: feature.float(), rounded)

    def _open(self, features: Any) -> None:
        """Create files for as many images of this size as there is room for."""
        tensors: list[Tensor] = all_tensors(features)
        self.structure = map_tensors(lambda tensor: tensor.new_empty(0), features)
        self.room = self.max_bytes // sum(tensor.nbytes for tensor in tensors)
        self.folder.mkdir(parents=True, exist_ok=True)
        shapes = [(max(1, self.room), *tensor.shape[1:]) for tensor in tensors]
        paths = [self.folder / f"{i}.float16" for i in range(len(tensors))]
        self.files = [np.memmap(path, np.float16, "w+", shape=shape) for path, shape in zip(paths, shapes, strict=True)]
        for path in paths:
            path.unlink()  # the space is freed when the process ends, in whatever way
