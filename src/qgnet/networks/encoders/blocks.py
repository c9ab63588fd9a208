"""The blocks that a stage is a chain of, for heads that look at more than its end."""

from collections.abc import Iterable, Iterator

from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

LAST_ACTIVATION: dict[type[nn.Module], str] = {BasicBlock: "act2", Bottleneck: "act3"}
"""Kind of residual block → its activation after the sum."""


def split_last_activations(net: nn.Module) -> None:
    """Take the activation after the sum out of each residual block and keep it beside, in place.

    A block then ends with its sum, and :func:`run_whole_block` does the rest. Names and values of weights stay.
    """
    for module in list(net.modules()):
        name = LAST_ACTIVATION.get(type(module))
        if name is not None:
            module.last_activation = getattr(module, name)
            setattr(module, name, nn.Identity())


def blocks_of(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """The links of a chain of modules: those of each Sequential, and each other module as one."""
    for module in modules:
        if type(module) is nn.Sequential:
            yield from module
        else:
            yield module


def run_block(block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What a block gives before its last activation, where that was split off, and after it."""
    before = block(x)
    last = getattr(block, "last_activation", None)
    return (before, before) if last is None else (before, last(before.clone()))  # most activations work in place


def run_whole_block(block: nn.Module, x: Tensor) -> Tensor:
    """What a block gives in the end."""
    last = getattr(block, "last_activation", None)
    return block(x) if last is None else last(block(x))
