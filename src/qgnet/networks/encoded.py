"""What networks keep of encoded images: tensors in named tuples, lists and dictionaries, at any depth; or None."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

Encoded = TypeVar("Encoded")


def each_tensor(change: Callable[[Tensor], Tensor], encoded: Encoded) -> Encoded:
    """The same with every tensor changed."""
    return _joined(lambda parts: change(parts[0]), [encoded])


def concatenated(parts: Sequence[Encoded]) -> Encoded:
    """Several of one kind as one, along their first dimension."""
    return parts[0] if len(parts) == 1 else _joined(torch.cat, parts)


def tensors(encoded: Any) -> Iterator[Tensor]:
    """All tensors, in order."""
    if isinstance(encoded, Tensor):
        yield encoded
    elif isinstance(encoded, dict):
        yield from tensors(list(encoded.values()))
    elif isinstance(encoded, tuple | list):
        for part in encoded:
            yield from tensors(part)


def has_shape(value: Any, shape: Sequence[int | None]) -> bool:
    """Whether it is a tensor of floats of this shape; None stands for any length from 1 on."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.dim() != len(shape):
        return False
    return all(found > 0 if side is None else found == side for found, side in zip(value.shape, shape, strict=True))


def _joined(join: Callable[[list[Tensor]], Tensor], parts: Sequence[Any]) -> Any:
    """What ``join`` makes of the tensors that stand in the same place of all parts."""
    first = parts[0]
    if isinstance(first, Tensor):
        return join(list(parts))
    if isinstance(first, dict):
        return {key: _joined(join, [part[key] for part in parts]) for key in first}
    if isinstance(first, tuple | list):
        fields = [_joined(join, field) for field in zip(*parts, strict=True)]
        return fields if isinstance(first, list) else type(first)(*fields) if hasattr(first, "_fields") else (*fields,)
    return first
