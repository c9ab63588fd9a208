"""What rough strokes in a mask say: of object, of background, and of what is not painted nothing."""

import numpy as np

from datamodules.files.sources import IGNORE, Array
from qgnet.common.errors import InputError
from qgnet.common.terminal import say
from qgnet.inference.snap import with_border

WHITE = 250
BLACK = 5
"""From the one on a grey level is white, up to the other black: the soft edge of a stroke is neither."""


def as_strokes(mask: Array, called: str) -> Array:
    """Strokes (H, W) uint8 → the same with 1 object, 0 background, 255 not painted.

    Args:
        mask: white object and black background on a grey canvas; white object on a black canvas, where nothing is
            said to be background; or 1 object, 0 background and 255 not painted, or 1 object and 0 not painted.
        called: what a message calls it.

    Raises:
        InputError: if there is no stroke of the object.
    """
    values = set(np.unique(mask).tolist())
    if values in ({0, 1, IGNORE}, {1, IGNORE}):
        return mask
    if values <= {0, 1}:
        mask = mask * np.uint8(255)
    white, black = mask >= WHITE, mask <= BLACK
    if not white.any() or white.all():
        where = "all white, or transparent" if white.any() else "without white"
        raise InputError(
            f"{called} is {where}; expected white strokes on the object, and black ones on the background, over grey."
        )
    strokes = np.where(white, 1, IGNORE).astype(np.uint8)
    if black.sum() < (~white & ~black).sum():  # else it is the canvas
        strokes[black] = 0
    return strokes


def with_background(strokes: Array, called: str) -> Array:
    """Strokes in {0, 1, 255} that have some background: of the object alone, the image's border far from them.

    Raises:
        InputError: if all of the border is near.
    """
    if (strokes == 0).any():
        return strokes
    found = with_border(strokes)
    if not (found == 0).any():
        raise InputError(f"{called} has no stroke on the background, and the object is near every border. Paint one.")
    say(f"{called} has no stroke on the background: the image's border far from the object is taken for it.")
    return found
