"""The form that image sides must have."""

from qgnet.common.errors import InputError

STRIDE = 8
LEAST = 2 * STRIDE + 1


def check_side(side: int, name: str) -> None:
    """Refuse a side that is not of the form 8n + 1: only there strided and dilated stages line up.

    Args:
        side: in pixels.
        name: of the setting or the image, for the message.

    Raises:
        InputError: with the next two sides that can be taken.
    """
    if side % STRIDE != 1:
        lower = max(LEAST, (side - 1) // STRIDE * STRIDE + 1)
        raise InputError(f"{name} is {side} px; expected 8n + 1 px. Take {lower} or {lower + STRIDE}.")
