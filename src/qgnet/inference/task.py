"""Segmentation of images as a Lightning predict run."""

import pytorch_lightning as pl

from datamodules.input_images import InputImage
from qgnet.inference.segmenter import Segmenter
from qgnet.outputs.segments import Result

SegmentedImage = tuple[InputImage, Result | None]
"""An image and its result; None if the image cannot be read."""


class ImageSegmentation(pl.LightningModule):
    """Runs a fitted Segmenter over batches of images; nothing is trained."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.net = segmenter.model.net

    def on_predict_start(self) -> None:
        """Move the fitted classes to the device of the network."""
        self.segmenter.to(self.device)

    def predict_step(self, batch: list[InputImage], batch_idx: int) -> list[SegmentedImage]:
        """Segment the images that could be read."""
        readable = [(image.prepared, str(image.path)) for image in batch if image.prepared is not None]
        results = iter(self.segmenter.segment(*zip(*readable, strict=True)) if readable else [])
        return [(image, None if image.prepared is None else next(results)) for image in batch]
