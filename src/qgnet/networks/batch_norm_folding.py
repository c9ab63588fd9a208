"""Weights whose batch norms were folded into the convolutions: made for inference, and here made fit for training."""

import torch
from torch import Tensor, nn

from qgnet.networks.encoders import Encoder

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
CALIBRATION_IMAGES = 64
"""Images from which statistics are estimated."""
TOLERANCE = 1e-3
"""Of a folded statistic: the usual eps of batch norm, and more."""


def is_folded(net: nn.Module) -> bool:
    """Whether all batch norms hold mean 0 and variance 1, as after folding (or before any training).

    Some write 1 - eps, so that the root of variance and eps is 1.
    """
    norms = _norms(net)
    return bool(norms) and all(_near(norm.running_mean, 0) and _near(norm.running_var, 1) for norm in norms)


@torch.no_grad()
def recalibrate_batch_norm(net: Encoder, images: Tensor) -> None:
    """Give the batch norms the statistics of some images, without changing what the network computes in evaluation.

    In training mode a batch norm normalises by its batch. After folding its input is no longer what its weight and bias
    were learned for, so the pretrained features would be lost at the first step. With statistics of their
    input, and weight and bias changed by as much, training mode computes nearly what evaluation mode does.

    Args:
        net: :func:`is_folded`; changed in place, left in the mode it was in.
        images: (N, 3, H, W) normalised floats like those of the training.
    """
    inputs: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def measure(norm: nn.Module, args: tuple[Tensor]) -> None:
        variance, mean = torch.var_mean(args[0].float(), dim=(0, 2, 3), correction=0)
        inputs[norm] = mean, variance

    norms, training = _norms(net), net.training
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    net.eval()
    net.encode_high(images)
    net.train(training)
    for hook in hooks:
        hook.remove()
    for norm in norms:
        mean, variance = inputs[norm]
        assert norm.running_mean is not None
        assert norm.running_var is not None
        folded = norm.weight / (norm.running_var + norm.eps).sqrt()
        norm.bias.add_(folded * (mean - norm.running_mean))
        norm.weight.copy_(folded * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


def _norms(net: nn.Module) -> list[BatchNorm]:
    return [module for module in net.modules() if isinstance(module, BatchNorm)]


def _near(statistics: Tensor | None, value: float) -> bool:
    return statistics is not None and bool(((statistics - value).abs() <= TOLERANCE).all())
