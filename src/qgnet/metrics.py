"""mIoU and FB-IoU of few-shot segmentation: intersections and unions summed over episodes, then divided."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_average_precision

from datamodules.files.sources import IGNORE
from qgnet.runs.results import THRESHOLDS


def intersection_and_union(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union of prediction and target in pixels, for background and foreground.

    Args:
        prediction: (H, W) in {0, 1}.
        target: (H, W) in {0, 1, 255}; pixels with 255 are ignored.

    Returns:
        Intersection and union, each (2,) int64: background, foreground.
    """
    counted = target != IGNORE
    predicted, true = (prediction == 1) & counted, (target == 1) & counted  # indexing by a mask would wait for a GPU
    both, either = (predicted & true).sum(), (predicted | true).sum()
    total = counted.sum()
    return torch.stack([total - either, both]), torch.stack([total - both, either])


class EpisodeScore(NamedTuple):
    """Scores in [0, 1].

    Attributes:
        miou: mean over the classes of the foreground IoU; classes without an episode are left out.
        fb_iou: mean of background and foreground IoU, summed over all episodes whatever their class.
        class_iou: one per class, NaN for a class without an episode.
        episodes: number of counted episodes.
    """

    miou: float
    fb_iou: float
    class_iou: list[float]
    episodes: int


class EpisodeIoU(Metric):
    """Sums intersections and unions per class over episodes and processes.

    ``torchmetrics.segmentation.MeanIoU`` averages over images instead, which gives another value.

    Args:
        class_ids: numbers of the scored classes, in the order of ``class_iou``.
    """

    full_state_update = False
    intersection: Tensor
    union: Tensor
    episodes: Tensor

    def __init__(self, class_ids: Sequence[int]) -> None:
        super().__init__()
        self.class_ids = tuple(class_ids)
        zeros = torch.zeros(len(self.class_ids), 2, dtype=torch.long)
        self.add_state("intersection", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("union", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("episodes", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor, class_id: int) -> None:
        """Count one episode: prediction (H, W) in {0, 1}, target (H, W) in {0, 1, 255}.

        Raises:
            ValueError: if the class is not among ``class_ids``.
        """
        row = self.class_ids.index(int(class_id))
        intersection, union = intersection_and_union(prediction, target)
        self.intersection[row] += intersection
        self.union[row] += union
        self.episodes += 1

    def compute(self) -> EpisodeScore:
        """The score of everything counted since the last reset."""
        class_iou = self.intersection[:, 1].double() / self.union[:, 1].double()
        fb = self.intersection.sum(dim=0).double() / self.union.sum(dim=0).double()
        return EpisodeScore(class_iou.nanmean().item(), fb.mean().item(), class_iou.tolist(), int(self.episodes))


class ControlScore(NamedTuple):
    """Measures whether predictions follow the support: the same queries with a present and with an absent class.

    Attributes:
        support_overlap: IoU of the two predictions, summed over the queries; 1 if the support has no effect.
        absent_pixels: share of pixels predicted for the absent class, in [0, 1]; 0 is correct.
        absent_to_present: pixels predicted for the absent class per pixel predicted for the present class.
        absent_empty: share of queries with an empty prediction for the absent class, in [0, 1].
    """

    support_overlap: float
    absent_pixels: float
    absent_to_present: float
    absent_empty: float


class SupportControl(Metric):
    """Compares predictions with supports of a present and of an absent class, summed over queries and processes."""

    full_state_update = False
    pixels: Tensor
    queries: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("pixels", torch.zeros(5, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("queries", torch.zeros(2, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, present: Tensor, absent: Tensor, target: Tensor) -> None:
        """Count one query.

        Args:
            present: (H, W) in {0, 1}, predicted with supports of a class that the query shows.
            absent: (H, W) in {0, 1}, predicted with supports of a class that the query does not show.
            target: (H, W) in {0, 1, 255}; pixels with 255 are ignored.
        """
        counted = target != IGNORE
        right, wrong = (present == 1) & counted, (absent == 1) & counted
        sums = [(right & wrong).sum(), (right | wrong).sum(), right.sum(), wrong.sum(), counted.sum()]
        self.pixels += torch.stack(sums)
        self.queries += torch.stack([~wrong.any(), torch.ones_like(wrong.any())]).long()

    def compute(self) -> ControlScore | None:
        """The score of all queries since the last reset; None without a query. NaN if nothing was predicted."""
        both, either, right, wrong, pixels = self.pixels.double()
        empty, queries = self.queries.double()
        if not queries:
            return None
        return ControlScore(
            (both / either).item(), (wrong / pixels).item(), (wrong / right).item(), (empty / queries).item()
        )


class MapScore(NamedTuple):
    """Quality of maps for objects of any class, in [0, 1]; NaN without an image that shows both object and background.

    Attributes:
        average_precision: average precision of pixels, mean over images. Noise scores the share of object pixels.
        iou: class-agnostic IoU, summed over the images, at the best of the nine thresholds.
    """

    average_precision: float
    iou: float


class MapQuality(Metric):
    """Class-agnostic quality of maps against the union of all masks, summed over images and processes."""

    full_state_update = False
    precision: Tensor
    images: Tensor
    intersection: Tensor
    union: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("precision", torch.zeros((), dtype=torch.double), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        zeros = torch.zeros(len(THRESHOLDS), dtype=torch.long)
        self.add_state("intersection", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("union", zeros.clone(), dist_reduce_fx="sum")

    def update(self, values: Tensor, objects: Tensor) -> None:
        """Count one image: map (H, W) in [0, 1], objects (H, W) in {0, 1, 255}.

        Images without an object or without background are skipped.
        """
        if not ((objects == 1).any() and (objects == 0).any()):
            return
        counted = objects != IGNORE
        self.precision += binary_average_precision(values[counted], (objects[counted] == 1).long()).double()
        self.images += 1
        for i, threshold in enumerate(THRESHOLDS):
            intersection, union = intersection_and_union(values > threshold, objects)
            self.intersection[i] += intersection[1]
            self.union[i] += union[1]

    def compute(self) -> MapScore:
        """The score of everything counted since the last reset."""
        iou = self.intersection.double() / self.union.double()
        return MapScore((self.precision / self.images).item(), iou.max().item())


def spread(embeddings: Tensor) -> Tensor:
    """Spread of embeddings (B, D) of length 1: 0 if all are equal (collapse), 1 if they cover the sphere.

    The standard deviation over the batch, averaged over the dimensions, times √D (SimSiam's measure of collapse).
    """
    return embeddings.std(dim=0, correction=0).mean() * embeddings.shape[1] ** 0.5
