"""What networks keep of encoded images: named tuples of tensors, which may hold further ones, lists, or None."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

Encoded = TypeVar("Encoded")


def each_tensor(change: Callable[[Tensor], Tensor], encoded: Encoded) -> Encoded:
    """The same with every tensor changed."""
    if isinstance(encoded, Tensor):
        return change(encoded)  # type: ignore[return-value]
    if isinstance(encoded, tuple):
        parts: list[Any] = [each_tensor(change, part) for part in encoded]
        return type(encoded)(*parts)
    if isinstance(encoded, list):
        return [each_tensor(change, part) for part in encoded]  # type: ignore[return-value]
    return encoded


def concatenated(parts: Sequence[Encoded]) -> Encoded:
    """Several of one kind as one, along their first dimension."""
    first = parts[0]
    if len(parts) == 1 or first is None:
        return first
    if isinstance(first, Tensor):
        return torch.cat(list(parts))  # type: ignore[arg-type,return-value]
    fields: list[Any] = [concatenated(field) for field in zip(*parts, strict=True)]
    return type(first)(*fields) if isinstance(first, tuple) else fields  # type: ignore[return-value]
