"""A bank of priors: what P sees in unlabelled images, in a few vectors (the paper's "predetermined priors")."""

from collections.abc import Iterable

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from qgnet.networks.encoders import Encoder
from qgnet.weights import Method

POSITIONS = 64
"""Feature positions that are taken from each image."""


@torch.no_grad()
def build_bank(encoder: Encoder, images: Iterable[Tensor], size: int, method: Method, seed: int) -> Tensor:
    """K priors from P's last stage.

    Args:
        encoder: P, frozen.
        images: normalised floats, (1, 3, H, W) each.
        size: number of priors, K.
        method: ``kmeans``: cluster centres of the features; ``sample``: features drawn at random.
        seed: of the draws.

    Returns:
        (K, C) float32.

    Raises:
        ValueError: if the images give fewer than K features.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for image in images:
        features = encoder.encode_high(image)[0].flatten(1).T
        drawn.append(features[rng.permutation(len(features))[:POSITIONS]])
    features = torch.cat(drawn) if drawn else torch.empty(0, encoder.high_channels)
    if len(features) < size:
        raise ValueError(
            f"{len(drawn)} image(s) give {len(features)} features, fewer than the {size} priors asked for."
        )
    if method == "sample":
        return features[rng.permutation(len(features))[:size]]
    centres, _ = kmeans2(features.double().numpy(), size, minit="points", rng=rng)
    return torch.from_numpy(centres).float()
