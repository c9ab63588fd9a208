"""Region maps from cosine correspondences (paper, sections "self-" and "cross-correspondence").

Both maps give for every query position its similarity to the most similar *key*. Cross-correspondence takes the
support's foreground positions as keys, self-correspondence takes the priors.
"""

import torch
from torch import Tensor

from qgnet.networks.layers import foreground_share, size_of

EPS = 1e-7
"""Added to norms and ranges, as in the released code."""

KEYS_AT_ONCE = 1024
"""Keys compared at once: one block's similarities exist at a time, at 641 px 26 MiB per image instead of 164."""


def region_map(query: Tensor, keys: Tensor, normalised: bool = False) -> Tensor:
    """Best cosine similarity of each query position to any key, min-max normalised per image.

    Args:
        query: (B, C, h, w) features.
        keys: (B, C, N) features, or (1, C, N) for all queries; an all-zero column (a masked-out support position) has
            similarity 0.
        normalised: whether the query features are of length 1 already, as :func:`l2_normalise` makes them.

    Returns:
        (B, 1, h, w) float32 in [0, 1]. Computed in float32 even under autocast: high-level cosines lie close
        together, and the normalisation would turn bfloat16's rounding into steps.
    """
    batch, _, height, width = query.shape
    query = query if normalised else l2_normalise(query)
    with torch.autocast(query.device.type, enabled=False):
        flat, keys = query.flatten(2), l2_normalise(keys)
        trained = torch.is_grad_enabled() and (flat.requires_grad or keys.requires_grad)
        best = _best_with_gradient(flat, keys) if trained else _best(flat, keys)
    return _min_max(best).view(batch, 1, height, width)


def foreground_keys(masked: Tensor, mask: Tensor) -> Tensor:
    """The positions of supports that can be a query position's nearest.

    Args:
        masked: (B, C, h, w) features, zero outside the foreground.
        mask: (B, H, W) in {0, 1, 255}. The positions are counted where it lies: if that is the host, a GPU with the
            features is not waited for.

    Returns:
        (B, C, N): the foreground's positions and, where there are others, one of them, whose similarity is 0 as that of
        all of them. N is that of the largest foreground; the rest of a smaller one is filled up with zero positions.
    """
    size, on_device = size_of(masked), mask.to(masked.device, non_blocking=True)
    share = foreground_share(on_device, size, masked.dtype)
    counted = share if on_device is mask else foreground_share(mask, size)
    inside = share.flatten(1) > 0
    most = min(inside.shape[1], int((counted > 0).flatten(1).sum(dim=1).max()) + 1)
    order = inside.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    return masked.flatten(2).gather(2, order[:, None].expand(-1, masked.shape[1], -1))


def _best(query: Tensor, keys: Tensor) -> Tensor:
    """Similarity of each position (B, C, M) to its nearest key (B or 1, C, N), both of length 1: (B, M)."""
    parts = (keys,) if torch.onnx.is_in_onnx_export() else keys.split(KEYS_AT_ONCE, dim=2)  # a file has one shape alone
    return torch.stack([(block.transpose(1, 2) @ query).amax(dim=1) for block in parts]).amax(dim=0)


def _best_with_gradient(query: Tensor, keys: Tensor) -> Tensor:
    """As :func:`_best`. The gradient of a maximum is that of its largest entry, so only the nearest key is kept for it:
    the backward pass needs no product of all positions with all keys.
    """  # noqa: D205
    with torch.no_grad():
        found = [(query.transpose(1, 2) @ block).max(dim=2) for block in keys.split(KEYS_AT_ONCE, dim=2)]
        block = torch.stack([similarity for similarity, _ in found]).argmax(dim=0)
        number = torch.stack([i for _, i in found]).gather(0, block[None])[0] + block * KEYS_AT_ONCE
    nearest = keys.expand(len(query), -1, -1).gather(2, number[:, None].expand(-1, query.shape[1], -1))
    return (query * nearest).sum(dim=1)


def untrained_prior_map(priors: Tensor) -> Tensor:
    """Objectness by P's features alone: how unlike each position is to the image's priors as a whole.

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
        features = l2_normalise(priors.flatten(2))
        mean_similarity = (features * features.mean(dim=2, keepdim=True)).sum(dim=1)
    return _min_max(-mean_similarity).view(batch, 1, height, width)


def _min_max(values: Tensor) -> Tensor:
    """(B, N) → [0, 1] per row."""
    low, high = values.amin(dim=1, keepdim=True), values.amax(dim=1, keepdim=True)
    return (values - low) / (high - low + EPS)


def l2_normalise(features: Tensor, eps: float = EPS) -> Tensor:
    """(B, C, …) of any floating dtype → float32, each position of length 1; zero positions stay zero."""
    features = features.float()
    return features / (features.norm(dim=1, keepdim=True) + eps)
