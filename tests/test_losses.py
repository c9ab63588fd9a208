import math

import pytest
import torch
import torch.nn.functional as F

from qgnet.losses import (
    PAIR_KINDS,
    ViewEmbeddings,
    contrastive_accuracy,
    global_local_loss,
    info_nce,
    segmentation_loss,
)
from qgnet.networks.few_shot import Prediction


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def slow_info_nce(queries: torch.Tensor, keys: torch.Tensor, negatives: torch.Tensor, temperature: float) -> float:
    losses = []
    for q, k in zip(queries.tolist(), keys.tolist(), strict=True):
        similarity = [sum(a * b for a, b in zip(q, other, strict=True)) for other in [k, *negatives.tolist()]]
        weights = [math.exp(s / temperature) for s in similarity]
        losses.append(-math.log(weights[0] / sum(weights)))
    return sum(losses) / len(losses)


def test_info_nce_equals_the_slow_reference() -> None:
    queries, keys, negatives = unit(4, 6), unit(4, 6, seed=1), unit(9, 6, seed=2)
    assert float(info_nce(queries, keys, negatives, 0.2)) == pytest.approx(
        slow_info_nce(queries, keys, negatives, 0.2), rel=1e-5
    )


def test_info_nce_is_computed_in_float32_under_autocast() -> None:
    queries, keys, negatives = unit(4, 6), unit(4, 6, seed=1), unit(9, 6, seed=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = info_nce(queries, keys, negatives)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, info_nce(queries, keys, negatives))


def test_global_local_terms_are_means_over_their_pairs() -> None:
    views = {name: unit(3, 5, seed=i) for i, name in enumerate(["g1", "g2", "l1", "l2", "kg1", "kg2", "kl1", "kl2"])}
    negatives = unit(7, 5, seed=20)
    embedded = ViewEmbeddings(*((views[f"{name}1"], views[f"{name}2"]) for name in ("g", "l", "kg", "kl")))
    terms = global_local_loss(embedded, negatives)
    pairs = {
        "global_global": [("g1", "kg2"), ("g2", "kg1")],
        "local_global": [("l1", "kg1"), ("l1", "kg2"), ("l2", "kg1"), ("l2", "kg2")],
        "local_local": [("l1", "kl2"), ("l2", "kl1")],
    }
    for kind, members in pairs.items():
        expected = sum(slow_info_nce(views[q], views[k], negatives, 0.2) for q, k in members) / len(members)
        assert float(terms[kind]) == pytest.approx(expected, rel=1e-5)


def test_patches_may_have_negatives_of_their_own() -> None:
    views = [unit(2, 3, 5, seed=i).unbind(0) for i in range(4)]
    negatives, patches = unit(7, 5, seed=20), unit(7, 5, seed=21)
    plain, own = (global_local_loss(ViewEmbeddings(*views), negatives, patch_negatives=n) for n in (None, patches))
    assert plain["global_global"] == own["global_global"]
    assert plain["local_global"] == own["local_global"]
    pairs = zip(views[1], reversed(views[3]), strict=True)
    expected = sum(slow_info_nce(query, key, patches, 0.2) for query, key in pairs) / 2
    assert float(own["local_local"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", PAIR_KINDS)
def test_gradients_of_each_kind_of_pair(kind: str) -> None:
    views = [unit(2, 2, 3, seed=i).double().requires_grad_() for i in range(4)]
    negatives = unit(4, 3, seed=9).double()

    def loss(*embedded: torch.Tensor) -> torch.Tensor:
        return global_local_loss(ViewEmbeddings(*(v.unbind(0) for v in embedded)), negatives, 0.2, [kind])[kind]

    assert torch.autograd.gradcheck(loss, views)


def test_kinds_that_are_not_wanted_need_no_views() -> None:
    g, kg = unit(2, 3, 5).unbind(0), unit(2, 3, 5, seed=1).unbind(0)
    local, negatives = unit(2, 3, 5, seed=2).unbind(0), unit(4, 5, seed=3)
    everything = global_local_loss(ViewEmbeddings(g, local, kg, local), negatives)
    assert global_local_loss(ViewEmbeddings(g, (), kg, ()), negatives, kinds=["global_global"]) == {
        "global_global": everything["global_global"]
    }
    assert global_local_loss(ViewEmbeddings((), local, kg, ()), negatives, kinds=["local_global"]) == {
        "local_global": everything["local_global"]
    }


def test_gradient_of_info_nce() -> None:
    queries = unit(2, 3).double().requires_grad_()
    numeric = torch.zeros_like(queries)
    keys, negatives = unit(2, 3, seed=1), unit(4, 3, seed=2)
    step = 1e-2
    for i in range(2):
        for j in range(3):
            shift = torch.zeros_like(queries)
            shift[i, j] = step
            up, down = (slow_info_nce((queries + s).detach(), keys, negatives, 0.2) for s in (shift, -shift))
            numeric[i, j] = (up - down) / (2 * step)
    info_nce(queries, keys, negatives).backward()
    assert torch.allclose(queries.grad, numeric, atol=1e-2)


def test_contrastive_accuracy() -> None:
    queries = torch.eye(3)
    assert contrastive_accuracy(queries, queries, -queries) == 1
    assert contrastive_accuracy(queries, -queries, queries) == 0
    collapsed = queries[:1].expand(4, -1)
    assert contrastive_accuracy(collapsed, collapsed, collapsed) == 0


@pytest.mark.parametrize("weight", [1.0, 4.0])
def test_segmentation_loss_ignores_255_weighs_the_foreground_and_averages_the_levels(weight: float) -> None:
    mask = torch.tensor([[[0, 1], [255, 1]]], dtype=torch.uint8)
    logits = torch.tensor([[[[2.0, 0.0], [9.0, 0.0]], [[0.0, 1.0], [-9.0, 3.0]]]])
    levels = [torch.zeros(1, 2, 1, 1), torch.tensor([[[[1.0]], [[0.0]]]])]
    main, auxiliary = segmentation_loss(Prediction(logits, {}, levels), mask, weight)

    def log_loss(good: float, bad: float) -> float:
        return -math.log(math.exp(good) / (math.exp(good) + math.exp(bad)))

    assert float(main) == pytest.approx(
        (log_loss(2, 0) + weight * (log_loss(1, 0) + log_loss(3, 0))) / (1 + 2 * weight)
    )
    second = (log_loss(1, 0) + 2 * weight * log_loss(0, 1)) / (1 + 2 * weight)
    assert float(auxiliary) == pytest.approx((math.log(2) + second) / 2)
