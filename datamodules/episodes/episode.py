"""An episode as tensors, and a batch of them."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from datamodules.files.sources import Array


class Episode(NamedTuple):
    """A batch of B episodes of K shots (a single episode has no leading B).

    Attributes:
        query_image: (B, 3, H, W) uint8.
        query_mask: (B, H, W) uint8 in {0, 1, 255}.
        support_images: (B, K, 3, H, W) uint8.
        support_masks: (B, K, H, W) uint8 in {0, 1, 255}.
        class_id: (B,) int64, the data set's own class number.
        present: (B,) bool, whether the query shows the class. If not, the right answer is an empty mask.
        control_of: (B,) int64: of a control (see EpisodeDataset), the row in the batch of the episode whose query it
            has under supports of an absent class; -1 of every other episode.
        query_name: B names.
        support_names: B tuples of K names.
        versions: (B, 1 + K) int64, of the query and of each support: the number of its augmentation where a training
            has fixed ones, the same pixels wherever name and number are the same; else -1.
        original_mask: B masks (h, w) uint8 in {0, 1, 255} at the size of the score; empty in training.
        original_size: B pairs (h, w), the size of the score: the query's own, or the network's.
        content_size: B pairs (h, w), the upper left part of ``query_image`` that is scored: all but the padding, or
            all of it where the score is taken at the network's size.
    """

    query_image: Tensor
    query_mask: Tensor
    support_images: Tensor
    support_masks: Tensor
    class_id: Tensor
    present: Tensor
    control_of: Tensor
    query_name: list[str]
    support_names: list[tuple[str, ...]]
    versions: Tensor
    original_mask: list[Tensor]
    original_size: list[tuple[int, int]]
    content_size: list[tuple[int, int]]


def collate(episodes: Sequence[Episode]) -> Episode:
    """Single episodes → one batch; the rows of ``control_of`` are those that ``EpisodeDataset.__getitems__`` gave."""
    return Episode(
        query_image=torch.stack([e.query_image for e in episodes]),
        query_mask=torch.stack([e.query_mask for e in episodes]),
        support_images=torch.stack([e.support_images for e in episodes]),
        support_masks=torch.stack([e.support_masks for e in episodes]),
        class_id=torch.stack([e.class_id for e in episodes]),
        present=torch.stack([e.present for e in episodes]),
        control_of=torch.stack([e.control_of for e in episodes]),
        query_name=[e.query_name[0] for e in episodes],
        support_names=[e.support_names[0] for e in episodes],
        versions=torch.stack([e.versions for e in episodes]),
        original_mask=[mask for e in episodes for mask in e.original_mask],
        original_size=[e.original_size[0] for e in episodes],
        content_size=[e.content_size[0] for e in episodes],
    )


def to_tensor(image: Array) -> Tensor:
    """(H, W, 3) uint8 array → (3, H, W) uint8 tensor, contiguous."""
    planes = np.empty((3, *image.shape[:2]), np.uint8)
    cv2.split(image, list(planes))  # sixteen times as fast as a transposed copy
    return torch.from_numpy(planes)
