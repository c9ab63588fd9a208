"""Answers that are not finite: they say nothing, and would be taken for empty masks."""

from collections.abc import Sequence

import torch
from torch import Tensor

EVERY = 50
"""Batches after which a GPU is waited for, to see whether its answers are finite."""


def not_finite(name: str, source: str) -> str:
    """What to tell of an answer with NaN or infinite values.

    Args:
        name: of the picture, or the pictures, that it is about.
        source: where the weights are from.
    """
    return (
        f"The network's answer to {name} is not finite (NaN or infinite), so it says nothing. Its weights are of "
        f"{source}. Restore that file or take another; with weights that are right, compute in float32."
    )


class FiniteWatch:
    """Keeps of each picture whether the answer to it was finite, on the device, so that no batch waits for a GPU."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.flags: list[Tensor] = []

    def note(self, names: Sequence[str], answers: Tensor) -> bool:
        """Keep it of a batch, (B, …); whether it is time to look."""
        self.names += names
        self.flags.append(torch.isfinite(answers).reshape(len(answers), -1).all(dim=1))
        return len(self.flags) >= EVERY

    def first_not_finite(self) -> str | None:
        """Name of the first picture since the last look whose answer was not finite; waits for the device."""
        finite = torch.cat(self.flags).tolist() if self.flags else []
        name = self.names[finite.index(False)] if False in finite else None
        self.names, self.flags = [], []
        return name
