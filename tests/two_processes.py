"""Started twice by test_processes.py: one process of a group, on the CPU."""

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from qgnet.networks.synchronised import synchronise_batch_norm


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2))


def images() -> torch.Tensor:
    return torch.randn(6, 3, 9, 9, generator=torch.Generator().manual_seed(1)) + 0.5


def target() -> torch.Tensor:
    return torch.randn(6, 2, 5, 5, generator=torch.Generator().manual_seed(2))


def train(net: nn.Module, own: slice) -> dict[str, torch.Tensor]:
    """Three steps; outputs of the last and all weights and statistics."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        output = net(images()[own])
        (output * target()[own]).mean().backward()
        optimizer.step()
    return {"output": output.detach(), **net.state_dict()}


if __name__ == "__main__":
    rank, store, result = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    net = synchronise_batch_norm(network(), "cpu")
    found = train(DistributedDataParallel(net), slice(rank, None, 2))
    torch.save(found, f"{result}/{rank}.pt")
