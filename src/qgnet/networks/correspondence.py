"""Region maps from cosine correspondences (paper, sections "self-" and "cross-correspondence").

Both maps answer one question for every query position: how similar is it to the most similar *key*?
Cross-correspondence takes the support's foreground positions as keys, self-correspondence takes the priors.
"""

import torch
from torch import Tensor

EPS = 1e-7
"""Added to norms and ranges, as in the released code."""

BLOCK = 1024
"""Keys compared at once: one block's similarities exist at a time, at 641 px 26 MiB per image instead of 164."""


def region_map(query: Tensor, keys: Tensor) -> Tensor:
    """Best cosine similarity of each query position to any key, min-max normalised per image.

    Args:
        query: (B, C, h, w) features.
        keys: (B, C, N) features, or (1, C, N) for all queries; an all-zero column (a masked-out support position) has
            similarity 0.

    Returns:
        (B, 1, h, w) float32 in [0, 1]. Computed in float32 even under autocast: high-level cosines lie close
        together, and the normalisation would turn bfloat16's rounding into steps.
    """
    return unit_region_map(unit(query), keys)


def unit_region_map(query: Tensor, keys: Tensor) -> Tensor:
    """:func:`region_map` of query features that are float32 of length 1 already, as :func:`unit` makes them."""
    batch, _, height, width = query.shape
    with torch.autocast(query.device.type, enabled=False):
        flat, keys = query.flatten(2), unit(keys)
        trained = torch.is_grad_enabled() and (flat.requires_grad or keys.requires_grad)
        best = _best_with_gradient(flat, keys) if trained else _best(flat, keys)
    return _min_max(best).view(batch, 1, height, width)


def _best(query: Tensor, keys: Tensor) -> Tensor:
    """Similarity of each position (B, C, M) to its nearest key (B or 1, C, N), both of length 1: (B, M)."""
    parts = (keys,) if torch.onnx.is_in_onnx_export() else keys.split(BLOCK, dim=2)  # a file has one shape alone
    return torch.stack([(block.transpose(1, 2) @ query).amax(dim=1) for block in parts]).amax(dim=0)


def _best_with_gradient(query: Tensor, keys: Tensor) -> Tensor:
    """As :func:`_best`. The gradient of a maximum is that of its largest entry, so only the nearest key is kept for it:
    the backward pass needs no product of all positions with all keys.
    """  # noqa: D205
    with torch.no_grad():
        found = [(query.transpose(1, 2) @ block).max(dim=2) for block in keys.split(BLOCK, dim=2)]
        block = torch.stack([similarity for similarity, _ in found]).argmax(dim=0)
        number = torch.stack([i for _, i in found]).gather(0, block[None])[0] + block * BLOCK
    nearest = keys.expand(len(query), -1, -1).gather(2, number[:, None].expand(-1, query.shape[1], -1))
    return (query * nearest).sum(dim=1)


def untrained_prior_map(priors: Tensor) -> Tensor:
    """What P's features alone say of objects: how unlike each position is to the image's priors as a whole.

    Self-correspondence compares the query with the priors after two convolutions that stage 2 trains. Without them the
    two are one feature and each position is its own nearest prior; what is left is the mean similarity to all priors,
    which is high in the background that fills an image and low at what stands out.

    Args:
        priors: (B, C, h, w) features of P.

    Returns:
        (B, 1, h, w) float32 in [0, 1]: one minus the mean cosine similarity, min-max normalised per image.
    """
    batch, _, height, width = priors.shape
    with torch.autocast(priors.device.type, enabled=False):
        features = unit(priors.flatten(2))
        mean_similarity = (features * features.mean(dim=2, keepdim=True)).sum(dim=1)
    return _min_max(-mean_similarity).view(batch, 1, height, width)


def _min_max(values: Tensor) -> Tensor:
    """(B, N) → [0, 1] per row."""
    low, high = values.amin(dim=1, keepdim=True), values.amax(dim=1, keepdim=True)
    return (values - low) / (high - low + EPS)


def unit(features: Tensor) -> Tensor:
    """(B, C, …) of any floating dtype → float32, each position of length 1; zero positions stay zero."""
    features = features.float()
    return features / (features.norm(dim=1, keepdim=True) + EPS)
