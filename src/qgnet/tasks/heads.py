"""Published heads over a frozen encoder without dilation: HSNet and DCAMA."""

from typing import Any

import torch
from pytorch_lightning.cli import OptimizerCallable

from qgnet.networks.dcama import DCAMA
from qgnet.networks.few_shot import FewShotNetwork
from qgnet.networks.hsnet import HSNet
from qgnet.tasks.base import Weight, as_setting_error
from qgnet.tasks.episodic import REUSE_MB
from qgnet.tasks.over_encoder import TaskOverEncoder, frozen_encoder
from qgnet.tasks.schedules import Schedule


def adam(params: Any) -> torch.optim.Optimizer:
    """HSNet's optimiser (released ``train.py``)."""
    return torch.optim.Adam(params, lr=0.001)


def nesterov_sgd(params: Any) -> torch.optim.Optimizer:
    """DCAMA's optimiser (released ``train.py``)."""
    return torch.optim.SGD(params, lr=0.001, momentum=0.9, weight_decay=1e-4, nesterov=True)


class HeadSegmentation(TaskOverEncoder):
    """A head over a frozen encoder, trained on episodes of base classes, tested on novel ones.

    Args:
        encoder: a timm model whose last three stages have the strides 8, 16 and 32; it is not dilated.
        encoder_weights: ``imagenet``, ``random``, or a file (state dict, or a prior extractor of stage 1).
        foreground_weight: weight of foreground pixels in the loss; the papers use 1.
        optimizer: optimiser of the trainable parameters.
        schedule: schedule of the learning rate, applied at each step: ``constant`` (the papers'), ``poly``, ``cosine``
            or ``step``, or the class of a torch scheduler.
        reuse: a validation, test or prediction encodes each image once and caches its features. False encodes it again
            for each episode; the result is the same.
        reuse_mb: size of this cache in MB, per process and on its device; the least recently used is evicted first.

    Attributes:
        network: class of the network; it takes an encoder.
    """

    network: type[FewShotNetwork]

    def __init__(
        self,
        encoder: str = "resnet50",
        encoder_weights: str = "imagenet",
        foreground_weight: Weight = 1.0,
        optimizer: OptimizerCallable = adam,
        schedule: Schedule = "constant",
        reuse: bool = True,
        reuse_mb: int = REUSE_MB,
    ) -> None:
        super().__init__(encoder_weights, reuse, reuse_mb, optimizer, schedule)
        self.save_hyperparameters(ignore=["optimizer", "schedule"])
        self.foreground_weight = foreground_weight
        encoder_net = frozen_encoder(encoder, dilated=False)
        with as_setting_error():
            self.net = self.network(encoder_net)


class HSNetSegmentation(HeadSegmentation):
    """HSNet (Min et al., ICCV 2021): hypercorrelation squeeze.

    Args:
        kwargs: arguments of :class:`HeadSegmentation`.
    """

    network = HSNet
    method = "HSNet"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class DCAMASegmentation(HeadSegmentation):
    """DCAMA (Shi et al., ECCV 2022): dense cross-query-and-support attention weighted mask aggregation.

    Args:
        optimizer: optimiser of the trainable parameters.
        kwargs: arguments of :class:`HeadSegmentation`.
    """

    network = DCAMA
    method = "DCAMA"

    def __init__(self, optimizer: OptimizerCallable = nesterov_sgd, **kwargs: Any) -> None:
        super().__init__(optimizer=optimizer, **kwargs)
