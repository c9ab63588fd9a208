"""Weights whose batch norms were folded into the convolutions: made for inference, and here made fit for training."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

CALIBRATION_IMAGES = 64
"""Images from which statistics are estimated."""


def is_folded(net: nn.Module) -> bool:
    """Whether all batch norms hold mean 0 and variance 1, as after folding (or before any training)."""
    statistics = {name: buffer for name, buffer in net.named_buffers() if "running" in name}
    return bool(statistics) and all(bool((b == float("var" in name)).all()) for name, b in statistics.items())


@torch.no_grad()
def unfold(net: nn.Module, images: Tensor) -> None:
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

    norms, training = [module for module in net.modules() if isinstance(module, _BatchNorm)], net.training
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    net.eval()
    net(images)
    net.train(training)
    for hook in hooks:
        hook.remove()
    for norm in norms:
        mean, variance = inputs[norm]
        assert norm.running_mean is not None
        assert norm.running_var is not None
        folded = norm.weight / (1 + norm.eps) ** 0.5
        norm.bias.add_(folded * mean)
        norm.weight.copy_(folded * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
