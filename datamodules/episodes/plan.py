"""The order of episodes in an evaluation: grouped by query, so that each query is encoded once."""

from collections.abc import Sequence


def visiting_order(queries: Sequence[int], first: int) -> list[int]:
    """Numbers of episodes, those of one query together, in the order of each query's first episode.

    The ``first`` episodes stay first, so that a limited evaluation sees the same episodes.
    """
    return [i for part in (range(first), range(first, len(queries))) for i in _grouped(queries, part)]


def _grouped(queries: Sequence[int], numbers: range) -> list[int]:
    groups: dict[int, list[int]] = {}
    for i in numbers:
        groups.setdefault(queries[i], []).append(i)
    return [i for group in groups.values() for i in group]


def shares(total: int, first: int, rank: int, ranks: int) -> list[range]:
    """Places of an order that one process visits: a run of the first ones, then a run of the rest.

    Each process gets as many as every other, or one less, so at most ``ranks - 1`` queries are visited by two.
    """
    parts = (range(first), range(first, total))
    return [part[len(part) * rank // ranks : len(part) * (rank + 1) // ranks] for part in parts]


def limited(limit: int | float | None, batches: int) -> int:
    """Number of batches that Lightning takes of a loader under a ``limit_…_batches``."""
    if limit is None:
        return batches
    return min(limit, batches) if isinstance(limit, int) else int(batches * limit)
