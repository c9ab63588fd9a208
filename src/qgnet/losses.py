"""The losses of both stages, as functions."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from qgnet.networks.layers import resize
from qgnet.networks.qgnet import QGNetOutput

IGNORE = 255


def segmentation_loss(output: QGNetOutput, mask: Tensor, foreground_weight: float = 1.0) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the prediction, and its mean over the FEM's levels (the auxiliary loss).

    Args:
        output: of QGNet.
        mask: (B, H, W) in {0, 1, 255}; 255 is ignored.
        foreground_weight: of foreground pixels against background pixels; both losses are weighted means.

    Returns:
        Main and auxiliary loss, two float32 scalars.
    """
    target = mask.long()
    size = (mask.shape[-2], mask.shape[-1])
    weight = torch.tensor([1.0, foreground_weight], device=mask.device)

    def cross_entropy(logits: Tensor) -> Tensor:
        return F.cross_entropy(resize(logits, size).float(), target, weight, ignore_index=IGNORE)

    return cross_entropy(output.logits), torch.stack([cross_entropy(x) for x in output.level_logits]).mean()


def info_nce(queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float = 0.2) -> Tensor:
    """InfoNCE: recognise each query's own key among the negatives.

    Args:
        queries: (B, D) of length 1.
        keys: (B, D) of length 1, the positive of each query.
        negatives: (N, D) of length 1.
        temperature: MoCo v2's 0.2 by default.

    Returns:
        float32 scalar, the mean over the batch.
    """
    return F.cross_entropy(*_logits(queries, keys, negatives, temperature))


def contrastive_accuracy(queries: Tensor, keys: Tensor, negatives: Tensor) -> Tensor:
    """Share of queries (B, D) that lie nearer to their key (B, D) than to each negative (N, D), in [0, 1]."""
    logits, target = _logits(queries, keys, negatives, 1.0)
    return (logits.argmax(dim=1) == target).float().mean()


def _logits(queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    with torch.autocast(queries.device.type, enabled=False):
        queries, keys, negatives = queries.float(), keys.float(), negatives.float()
        positive = (queries * keys).sum(dim=1, keepdim=True)
        logits = torch.cat([positive, queries @ negatives.T], dim=1) / temperature
    return logits, torch.zeros(len(queries), dtype=torch.long, device=queries.device)


def global_local_loss(
    query_globals: Sequence[Tensor],
    query_locals: Sequence[Tensor],
    key_globals: Sequence[Tensor],
    key_locals: Sequence[Tensor],
    negatives: Tensor,
    temperature: float = 0.2,
) -> dict[str, Tensor]:
    """InfoNCE of each kind of pair among two global views and two local patches per image.

    Every pair is taken in both directions: what one view's query must recognise is the other view's key.

    Args:
        query_globals: embeddings (B, D) of the two global views by the query encoder.
        query_locals: of the two local patches by the query encoder.
        key_globals: of the two global views by the key encoder.
        key_locals: of the two local patches by the key encoder.
        negatives: (N, D), the queue.
        temperature: of the softmax.

    Returns:
        ``global_global`` (g1, g2), ``local_global`` (each patch against each global view) and ``local_local``
        (l1, l2), each a float32 scalar, the mean over its pairs.
    """
    (g1, g2), (l1, l2) = query_globals, query_locals
    (kg1, kg2), (kl1, kl2) = key_globals, key_locals
    pairs = {
        "global_global": [(g1, kg2), (g2, kg1)],
        "local_global": [(l1, kg1), (l1, kg2), (l2, kg1), (l2, kg2)],
        "local_local": [(l1, kl2), (l2, kl1)],
    }
    return {
        kind: torch.stack([info_nce(q, k, negatives, temperature) for q, k in members]).mean()
        for kind, members in pairs.items()
    }
