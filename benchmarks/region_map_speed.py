"""CPU seconds of a prior map with its gradient, against the gradient of all similarities; the two sides take turns.

A batch of 4 at 473 px: 3,600 positions against 3,600 priors of 256 channels. The baseline keeps every similarity for
the backward pass, as autograd does of a maximum.

Usage: python benchmarks/region_map_speed.py
"""

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from qgnet.networks.correspondence import EPS, l2_normalise, region_map

BATCH, CHANNELS, SIDE, ROUNDS = 4, 256, 60, 5


def of_all(query: Tensor, keys: Tensor) -> Tensor:
    """:func:`region_map`, the maximum left to autograd."""
    best = (l2_normalise(keys).transpose(1, 2) @ l2_normalise(query.flatten(2))).amax(dim=1)
    low, high = best.amin(dim=1, keepdim=True), best.amax(dim=1, keepdim=True)
    return ((best - low) / (high - low + EPS)).view(len(query), 1, *query.shape[2:])


def main() -> None:
    """Print seconds, and the largest difference of the maps and of the gradients."""
    torch.manual_seed(0)
    query = torch.randn(BATCH, CHANNELS, SIDE, SIDE, requires_grad=True)
    keys = torch.randn(BATCH, CHANNELS, SIDE * SIDE, requires_grad=True)
    weights = torch.randn(BATCH, 1, SIDE, SIDE)
    sides: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"all similarities": of_all, "the nearest alone": region_map}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    results: dict[str, tuple[Tensor, ...]] = {}
    for _ in range(ROUNDS):
        for name, side in sides.items():
            start = time.process_time()
            found = side(query, keys)
            results[name] = found.detach(), *torch.autograd.grad((found * weights).sum(), (query, keys))
            seconds[name].append(time.process_time() - start)
    for name, taken in seconds.items():
        print(f"{name:18} {median(taken):.2f} CPU s forward and backward")
    pairs = zip(("map", "query's gradient", "priors' gradient"), *results.values(), strict=True)
    for name, one, other in pairs:
        print(
            f"{name}: at most {float((one - other).abs().max()):.1e} apart, at most {float(one.abs().max()):.2f} large"
        )


if __name__ == "__main__":
    main()
