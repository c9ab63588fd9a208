"""The refiners that a Segmenter can choose from."""

from typing import TYPE_CHECKING

import torch

from qgnet.common.errors import InputError
from qgnet.inference import REFINE
from qgnet.inference.refinement import REFINERS, Refiner

if TYPE_CHECKING:
    from qgnet.inference.sam_refinement import Sam2Refiner

SAM = "sam2"


class Refiners(dict[str, Refiner]):
    """Name → refiner to choose from; the first is taken unless another is clearly better.

    Args:
        refine: one of `REFINE`.

    Attributes:
        sam: SAM 2 if ``refine`` asks for it, else None.

    Raises:
        InputError: if the name is unknown, or the refiner's library or weights are missing.
    """

    def __init__(self, refine: str) -> None:
        if refine not in REFINE:
            raise InputError(f"refine is {refine!r}; expected one of {', '.join(REFINE)}.")
        super().__init__({name: REFINERS[name] for name in candidates(refine) if name in REFINERS})
        self.refine = refine
        self.sam = open_sam() if refine == SAM else None
        if self.sam:
            self[SAM] = self.sam

    @property
    def guide_side(self) -> int | None:
        """Longer side of the image copy for the refiners, in pixels; None lets `prepare_image` choose."""
        return self.sam.side if self.sam else None

    @property
    def identity(self) -> str:
        """A text that identifies everything their results depend on."""
        return f"{self.refine} {self.sam.identity}" if self.sam else self.refine

    def to(self, device: torch.device) -> None:
        """Move the networks of the refiners."""
        if self.sam:
            self.sam.to(device)


def open_sam() -> "Sam2Refiner":
    """Open SAM 2; only this imports its library."""
    from qgnet.inference.sam_refinement import Sam2Refiner  # noqa: PLC0415

    return Sam2Refiner()


def candidates(refine: str) -> tuple[str, ...]:
    """Names of the refiners for one of `REFINE`; ``auto`` takes only refiners without a download."""
    return tuple(REFINERS) if refine == REFINE[0] else (refine,)
