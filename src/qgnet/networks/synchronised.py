"""Layers over the batches of all processes: with a share of the batch each, they do what one does with the whole.

Of R processes, number r has the samples r, r + R, … of the batch.
"""

from typing import TypeVar

import torch
import torch.distributed
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

Net = TypeVar("Net", bound=nn.Module)


def synchronise_batch_norm(net: Net, device: str) -> Net:
    """Replace the batch norms of a network; names and values of its weights stay.

    Args:
        net: changed in place, as far as it is no batch norm itself.
        device: ``cpu`` or another type. PyTorch's own synchronised batch norm, faster, does not run on a CPU; the one
            for it takes the place of plain ``BatchNorm2d`` only, not of timm's that include an activation.
    """
    if device != "cpu":
        return convert_sync_batchnorm(net)
    for module in list(net.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, CpuSyncBatchNorm.of(child))
    return net


class CpuSyncBatchNorm(nn.BatchNorm2d):
    """``BatchNorm2d`` whose training statistics are those of all processes' batches together."""

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> "CpuSyncBatchNorm":
        """The same batch norm, sharing its weights and statistics."""
        new = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        new.__dict__.update(norm.__dict__)
        return new

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same shape."""
        if not (self.training and torch.distributed.is_initialized()):
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        axes = (0, 2, 3)
        wide = x.float()
        count = torch.full((1,), float(x.numel() // x.shape[1]), device=x.device)
        sums = all_reduce(torch.cat([wide.sum(axes), count]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        squares = all_reduce((wide - mean.view(1, -1, 1, 1)).square().sum(axes))
        variance = squares / total
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(squares / (total - 1), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        scale, shift = torch.rsqrt(variance + self.eps), -mean
        if self.affine:
            scale = scale * self.weight
        result = (wide + shift.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1)
        return (result + self.bias.view(1, -1, 1, 1) if self.affine else result).to(x.dtype)


def synchronise_dropout(net: nn.Module, rank: int, processes: int, rows: int = 1) -> None:
    """Replace the dropout of whole channels in a network, in place.

    Args:
        net: is given this process's share of each batch.
        rank: of this process.
        processes: number of processes.
        rows: how many each sample has in what is dropped, such as its shots.
    """
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout2d):
                setattr(module, name, SharedDropout2d(child.p, rank, processes, rows))


class SharedDropout2d(nn.Dropout2d):
    """``Dropout2d`` that draws for the samples of all processes and takes its own; all must have the same seed.

    Args:
        p: probability of a channel to be dropped.
        rank: as for :func:`synchronise_dropout`, as are the others.
        processes: number of processes.
        rows: of a sample.
    """

    def __init__(self, p: float, rank: int, processes: int, rows: int) -> None:
        super().__init__(p)
        self.rank = rank
        self.processes = processes
        self.rows = rows

    def forward(self, x: Tensor) -> Tensor:
        """(B * rows, C, H, W) → the same shape."""
        if not self.training:
            return x
        whole = x.new_empty(len(x) // self.rows, self.processes, self.rows, x.shape[1])
        kept = whole.bernoulli_(1 - self.p).div_(1 - self.p)
        return x * kept[:, self.rank].reshape(len(x), -1, 1, 1)
