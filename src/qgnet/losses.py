"""The losses of both stages, as functions."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.files.sources import IGNORE
from qgnet.networks.few_shot import Prediction
from qgnet.networks.layers import constants, resize


def segmentation_loss(
    output: Prediction, mask: Tensor, foreground_weight: float = 1.0, total: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the prediction, and its mean over the level logits (the auxiliary loss), 0 without any.

    Args:
        output: of the network, with level logits.
        mask: (B, H, W) in {0, 1, 255}; 255 is ignored.
        foreground_weight: of foreground pixels against background pixels; both losses are weighted means.
        total: the sum of the weights that the sums are divided by; None takes that of ``mask``. Several processes
            divide by the mean of theirs, so that the mean of their losses is that of one with the whole batch.

    Returns:
        Main and auxiliary loss, two float32 scalars.
    """
    target = mask.long()
    size = (mask.shape[-2], mask.shape[-1])
    weight = constants((1.0, foreground_weight), mask.device)
    divisor = total_weight(mask, foreground_weight) if total is None else total

    def cross_entropy(logits: Tensor) -> Tensor:
        full = resize(logits, size).float()
        return F.cross_entropy(full, target, weight, ignore_index=IGNORE, reduction="sum") / divisor

    levels = [cross_entropy(x) for x in output.level_logits]
    main = cross_entropy(output.logits)
    return main, torch.stack(levels).mean() if levels else torch.zeros_like(main)


def dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """1 - Dice coefficient of the foreground's probability (Milletari et al., 2016), a float32 scalar.

    It is taken per episode; the mean is that of the episodes whose mask shows something, 0 without any.

    Args:
        logits: (B, 2, h, w), resized to the mask.
        mask: (B, H, W) in {0, 1, 255}; 255 is ignored.
    """
    full = resize(logits, (mask.shape[-2], mask.shape[-1])).float()
    probability = full.softmax(dim=1)[:, 1] * (mask != IGNORE)
    truth = (mask == 1).float()
    both, sizes = (probability * truth).sum(dim=(1, 2)), (probability + truth).sum(dim=(1, 2))
    shown = (truth.sum(dim=(1, 2)) > 0).float()
    loss = 1 - (2 * both + 1) / (sizes + 1)
    return (loss * shown).sum() / shown.sum().clamp(min=1)


def total_weight(mask: Tensor, foreground_weight: float) -> Tensor:
    """The sum of the pixels' weights: 1 background, ``foreground_weight`` foreground, 0 ignored; at least 1."""
    background, foreground = (mask == 0).sum(), (mask == 1).sum()
    return (background + foreground_weight * foreground).float().clamp(min=1)


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
    """Share of queries (B, D) that lie nearer to their key (B, D) than to each negative (N, D), in [0, 1].

    A tie does not count: collapsed embeddings have an accuracy of 0.
    """
    logits, _ = _logits(queries, keys, negatives, 1.0)
    return (logits[:, 0] > logits[:, 1:].amax(dim=1)).float().mean()


def _logits(queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    exact = torch.promote_types(queries.dtype, torch.float32)  # bfloat16 would round a logit of 5 by up to 0.02
    with torch.autocast(queries.device.type, enabled=False):
        queries, keys, negatives = queries.to(exact), keys.to(exact), negatives.to(exact)
        positive = (queries * keys).sum(dim=1, keepdim=True)
        logits = torch.cat([positive, queries @ negatives.T], dim=1) / temperature
    return logits, torch.zeros(len(queries), dtype=torch.long, device=queries.device)


PAIR_KINDS = ("global_global", "local_global", "local_local")
"""The kinds of pairs among two global views and two local patches of an image."""


class ViewEmbeddings(NamedTuple):
    """Embeddings (B, D) of the views of B images; what the wanted kinds of pairs do not need may be empty.

    Attributes:
        query_globals: of the two global views by the query encoder.
        query_locals: of the two local patches by the query encoder.
        key_globals: of the two global views by the key encoder.
        key_locals: of the two local patches by the key encoder.
    """

    query_globals: Sequence[Tensor]
    query_locals: Sequence[Tensor]
    key_globals: Sequence[Tensor]
    key_locals: Sequence[Tensor]


def view_pairs(kind: str, views: ViewEmbeddings) -> list[tuple[Tensor, Tensor]]:
    """The (query, key) pairs of one of `PAIR_KINDS`: (g1, g2), each patch against each global view, or (l1, l2).

    Every pair is taken in both directions: what one view's query must recognise is the other view's key.
    """
    if kind == "local_global":
        return [(local, key) for local in views.query_locals for key in views.key_globals]
    if kind == "global_global":
        queries, keys = views.query_globals, views.key_globals
    else:
        queries, keys = views.query_locals, views.key_locals
    return [(queries[0], keys[1]), (queries[1], keys[0])]


def global_local_loss(
    views: ViewEmbeddings,
    negatives: Tensor,
    temperature: float = 0.2,
    kinds: Sequence[str] = PAIR_KINDS,
    patch_negatives: Tensor | None = None,
) -> dict[str, Tensor]:
    """InfoNCE of each kind of pair among two global views and two local patches per image.

    Args:
        views: their embeddings.
        negatives: (N, D), the queue.
        temperature: of the softmax.
        kinds: those of `PAIR_KINDS` that are wanted.
        patch_negatives: (N, D), those of ``local_local``; None takes ``negatives`` there, too.

    Returns:
        kind → float32 scalar, the mean over its pairs.
    """
    others = dict.fromkeys(kinds, negatives)
    if patch_negatives is not None:
        others["local_local"] = patch_negatives
    return {
        kind: torch.stack([info_nce(q, k, others[kind], temperature) for q, k in view_pairs(kind, views)]).mean()
        for kind in kinds
    }
