"""Peak memory of the guided map of a 5-shot episode at 641 px (81 x 81 positions, 2,048 channels, float32).

Baselines: the plain formula, the cosine of every query position and every support position, of all shots at once or one
shot after the other. Each way runs in a process of its own; counted is what its peak adds to the features, which all
hold.

Usage: python benchmarks/correlation_memory.py
"""

import argparse
import multiprocessing
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import torch
from torch import Tensor

from qgnet.networks.correspondence import EPS, region_map

SHOTS, CHANNELS, SIDE = 5, 2048, 81


def all_at_once(query: Tensor, keys: Tensor) -> Tensor:
    """Query (1, C, h, w) and keys (1, K, C, N) → (1, 1, h, w), mean over the shots."""
    q = query.flatten(2)
    products = torch.einsum("bkcn,bcm->bknm", keys, q)
    best = (products / (keys.norm(dim=2)[..., None] * q.norm(dim=1)[:, None, None] + EPS)).amax(dim=2)
    low, high = best.amin(dim=2, keepdim=True), best.amax(dim=2, keepdim=True)
    return ((best - low) / (high - low + EPS)).mean(dim=1).view(1, 1, *query.shape[2:])


def shot_by_shot(query: Tensor, keys: Tensor) -> Tensor:
    """The plain formula for each shot."""
    return torch.stack([all_at_once(query, shot) for shot in keys.split(1, dim=1)]).mean(dim=0)


def in_blocks(query: Tensor, keys: Tensor) -> Tensor:
    """The same as QGNet computes it: shot by shot, in blocks of keys."""
    return torch.stack([region_map(query, shot) for shot in keys.unbind(1)]).mean(dim=0)


def peak_mib() -> float:
    """The most resident memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(way: Callable[[Tensor, Tensor], Tensor]) -> tuple[float, Tensor]:
    """MiB beyond the features, and the map."""
    torch.manual_seed(0)
    query = torch.rand(1, CHANNELS, SIDE, SIDE)
    keys = torch.rand(1, SHOTS, CHANNELS, SIDE * SIDE)
    with torch.no_grad():
        way(query[:, :8, :8, :8], keys[:, :, :8, :64])  # libraries load at the first call
        before = peak_mib()
        result = way(query, keys)
    return peak_mib() - before, result


def main() -> None:
    """Print MiB and ratios."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    found = []
    for way in (in_blocks, all_at_once, shot_by_shot):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            found.append(pool.submit(measure, way).result())
    (ours, result), (whole, expected), (each, _) = found
    assert torch.allclose(result, expected, atol=1e-3), "the two ways disagree"
    print(f"QGNet, shot by shot and keys in blocks: {ours:,.0f} MiB")
    print(f"plain formula, all shots at once: {whole:,.0f} MiB, {whole / ours:.1f} times as much")
    print(f"plain formula, shot by shot: {each:,.0f} MiB, {each / ours:.1f} times as much")


if __name__ == "__main__":
    main()
