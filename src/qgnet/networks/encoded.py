"""What networks keep of encoded images: named tuples of tensors, which may hold further ones, lists, or None."""

from collections.abc import Callable
from typing import Any, TypeVar

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
