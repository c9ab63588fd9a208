"""What keeps a convolutional network's last stages at stride 8, and its grids aligned, without other parameters."""

from torch import nn

POOLS = (nn.MaxPool2d, nn.AvgPool2d)


def align_grids(net: nn.Module) -> None:
    """Make each halving of 2n + 1 positions give n + 1, in place.

    Pools without padding round up (as in the released VGG), and strided convolutions of even kernel without padding
    (ConvNeXt's patches) get half their kernel as padding. Odd kernels with their usual padding do it anyway.
    """
    for module in net.modules():
        if isinstance(module, POOLS) and not any(_pair(module.padding)):
            module.ceil_mode = True
        elif isinstance(module, nn.Conv2d) and module.stride[0] > 1 and module.kernel_size[0] % 2 == 0:
            module.padding = tuple(k // 2 for k in module.kernel_size)


def dilate(stage: nn.Module, dilation: int) -> None:
    """Take the strides out of a stage and give all its convolutions larger than 1x1 this dilation, in place.

    A strided pool, e.g. of ResNet-D's shortcut, becomes the identity.
    """
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if max(module.kernel_size) > 1:
                module.dilation = (dilation, dilation)
                module.padding = tuple(dilation * (k - 1) // 2 for k in module.kernel_size)
        elif isinstance(module, POOLS) and max(_pair(module.stride)) > 1:
            module.kernel_size = module.stride = (1, 1)
            module.padding = (0, 0)


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    """A pool's setting for both axes."""
    return (value, value) if isinstance(value, int) else tuple(value)
