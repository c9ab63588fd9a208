"""What networks keep of encoded images: tensors in named tuples, lists and dictionaries, at any depth; or None."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

Nested = TypeVar("Nested")


def map_tensors(change: Callable[[Tensor], Tensor], nested: Nested) -> Nested:
    """The same with every tensor changed."""
    return apply_to_collection(nested, Tensor, change)


def all_tensors(nested: Any) -> list[Tensor]:
    """All tensors, in order."""
    found: list[Tensor] = []
    apply_to_collection(nested, Tensor, found.append)
    return found


def concatenate(parts: Sequence[Nested]) -> Nested:
    """Several of one kind as one, along their first dimension."""
    if len(parts) == 1:
        return parts[0]
    joined = map(torch.cat, zip(*map(all_tensors, parts), strict=True))
    return map_tensors(lambda _: next(joined), parts[0])


def has_shape(value: Any, shape: Sequence[int | None]) -> bool:
    """Whether it is a tensor of floats of this shape; None stands for any length from 1 on."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.dim() != len(shape):
        return False
    return all(found > 0 if side is None else found == side for found, side in zip(value.shape, shape, strict=True))
