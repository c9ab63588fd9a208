"""Random streams that are functions of lists of numbers; different lists give different streams."""

import numpy as np


def stream(seed: int, *numbers: int) -> np.random.Generator:
    """The stream of ``seed`` and these numbers, all ≥ 0.

    They are spawn keys: as one list with the seed, numpy would fill it up with zeros, and ``[s, i]`` and ``[s, i, 0]``
    would be one stream.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=numbers))
