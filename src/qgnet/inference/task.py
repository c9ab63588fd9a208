"""Segmentation of images as a Lightning predict run."""

from typing import NamedTuple

import pytorch_lightning as pl

from datamodules.input_images import InputImage
from qgnet.inference.segmenter import Segmenter
from qgnet.outputs.segments import Result


class SegmentedImage(NamedTuple):
    """An image and what was found.

    Attributes:
        image: as it was given.
        result: None if it cannot be read.
    """

    image: InputImage
    result: Result | None


class ImageSegmentation(pl.LightningModule):
    """Runs a fitted Segmenter over batches of images; nothing is trained.

    Args:
        segmenter: that has learnt what to find.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.net = segmenter.model.net

    def on_predict_start(self) -> None:
        """Bring what was learnt to where Lightning has brought the network."""
        self.segmenter.to(self.device)

    def predict_step(self, batch: list[InputImage], batch_idx: int) -> list[SegmentedImage]:
        """Segment those that could be read."""
        readable = [(photo.letterboxed, str(photo.path)) for photo in batch if photo.letterboxed is not None]
        results = iter(self.segmenter.segment(*zip(*readable, strict=True)) if readable else [])
        return [SegmentedImage(photo, None if photo.letterboxed is None else next(results)) for photo in batch]
