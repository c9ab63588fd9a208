"""Rough strokes on object and background as masks; unpainted pixels are unknown."""

import numpy as np

from datamodules.files.sources import IGNORE, Array
from qgnet.common.errors import InputError
from qgnet.common.terminal import say
from qgnet.inference.snap import with_border

WHITE = 250
BLACK = 5
"""Grey levels from `WHITE` count as white, up to `BLACK` as black; the soft edge of a stroke is neither."""


def as_strokes(mask: Array, called: str) -> Array:
    """Strokes (H, W) uint8 → strokes with 1 object, 0 background, 255 not painted.

    Args:
        mask: one of: white object and black background on a grey canvas; white object on a black canvas, without
            background strokes; 1 object, 0 background and 255 not painted; 1 object and 0 not painted.
        called: name of the mask in messages.

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
    if black.sum() < (~white & ~black).sum():  # otherwise black is the canvas
        strokes[black] = 0
    return strokes


def with_background(strokes: Array, called: str) -> Array:
    """Strokes in {0, 1, 255} with background: without strokes for it, the border of the image far from the object.

    Raises:
        InputError: if the whole border is near the object.
    """
    if (strokes == 0).any():
        return strokes
    found = with_border(strokes)
    if not (found == 0).any():
        raise InputError(f"{called} has no stroke on the background, and the object is near every border. Paint one.")
    say(f"{called} has no stroke on the background: the image's border far from the object is taken for it.")
    return found
