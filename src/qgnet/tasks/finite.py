"""Outputs that are not finite: they would be taken for empty masks."""

from collections.abc import Sequence

import torch
from torch import Tensor

EVERY = 50
"""Batches after which a GPU is waited for, to see whether its outputs are finite."""


def not_finite(name: str, source: str) -> str:
    """The message about an output with NaN or infinite values.

    Args:
        name: of the image, or the images, that it is for.
        source: where the weights are from.
    """
    return (
        f"The network's output for {name} is not finite (NaN or infinite). Its weights are of {source}. Restore that "
        "file or take another; with weights that are right, compute in float32."
    )


class FiniteWatch:
    """Keeps for each image whether the output was finite, on the device, so that no batch waits for a GPU."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.flags: list[Tensor] = []

    def add(self, names: Sequence[str], outputs: Tensor) -> bool:
        """Take up a batch, (B, …); whether it is time to look."""
        self.names += names
        self.flags.append(torch.isfinite(outputs).reshape(len(outputs), -1).all(dim=1))
        return len(self.flags) >= EVERY

    def first_not_finite(self) -> str | None:
        """Name of the first image since the last look whose output was not finite; waits for the device."""
        finite = torch.cat(self.flags).tolist() if self.flags else []
        name = self.names[finite.index(False)] if False in finite else None
        self.names, self.flags = [], []
        return name
