"""Detect outputs that are not finite, which would look like empty masks."""

from collections.abc import Sequence

import torch
from torch import Tensor

EVERY = 50
"""Batches between two checks for finite outputs, each of which waits for a GPU."""


def not_finite(name: str, source: str) -> str:
    """The message about an output with NaN or infinite values.

    Args:
        name: name of the image or images of the output.
        source: origin of the weights.
    """
    return (
        f"The network's output for {name} is not finite (NaN or infinite). Its weights are of {source}. Restore that "
        "file or take another; with weights that are right, compute in float32."
    )


class FiniteWatch:
    """Records on the device, for each image, whether the output is finite, so that no batch waits for a GPU."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.flags: list[Tensor] = []

    def add(self, names: Sequence[str], outputs: Tensor) -> bool:
        """Record a batch of outputs (B, …); return whether a check is due."""
        self.names += names
        self.flags.append(torch.isfinite(outputs).reshape(len(outputs), -1).all(dim=1))
        return len(self.flags) >= EVERY

    def first_not_finite(self) -> str | None:
        """Name of the first image since the last check whose output is not finite, or None; waits for the device."""
        finite = torch.cat(self.flags).tolist() if self.flags else []
        name = self.names[finite.index(False)] if False in finite else None
        self.names, self.flags = [], []
        return name
