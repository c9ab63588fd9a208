"""The refiners that a Segmenter may choose from."""

from typing import TYPE_CHECKING

import torch

from qgnet.common.errors import InputError
from qgnet.inference import REFINE
from qgnet.inference.refinement import REFINERS, Refiner

if TYPE_CHECKING:
    from qgnet.inference.sam_refinement import Sam2Refiner

SAM = "sam2"


class Refiners(dict[str, Refiner]):
    """Name → refiner, of those to choose from; the first is taken where no other is clearly better.

    Args:
        refine: one of `REFINE`.

    Attributes:
        sam: SAM 2, where it is asked for.

    Raises:
        InputError: if there is no such refiner, or what it needs is missing.
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
        """Longer side in pixels of the copy of an image that they take; None: as `prepare_image` chooses."""
        return self.sam.side if self.sam else None

    @property
    def identity(self) -> str:
        """What their results depend on."""
        return f"{self.refine} {self.sam.identity}" if self.sam else self.refine

    def to(self, device: torch.device) -> None:
        """Move the networks among them."""
        if self.sam:
            self.sam.to(device)


def open_sam() -> "Sam2Refiner":
    """SAM 2, whose library is only imported here."""
    from qgnet.inference.sam_refinement import Sam2Refiner  # noqa: PLC0415

    return Sam2Refiner()


def candidates(refine: str) -> tuple[str, ...]:
    """Names of the refiners that one of `REFINE` chooses from; ``auto`` takes none that has to be downloaded."""
    return tuple(REFINERS) if refine == REFINE[0] else (refine,)
