import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qgnet.common.errors import InputError
from qgnet.networks import correspondence
from qgnet.networks.contrast import MomentumPair
from qgnet.networks.correspondence import foreground_keys, region_map
from qgnet.networks.encoders import create_encoder
from qgnet.networks.enrichment import FeatureEnrichment, level_size
from qgnet.networks.nested_tensors import all_tensors
from qgnet.networks.qgnet import QGNet, masked_average


def tiny_qgnet(high_stage: int = 3) -> QGNet:
    torch.manual_seed(0)
    return QGNet(
        create_encoder("test_resnet", high_stage), create_encoder("test_resnet", high_stage), width=8, levels=[1, 0.5]
    )


def episode(side: int = 65, batch: int = 2, shots: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    masks = torch.randint(0, 2, (batch, shots, side, side), generator=g).to(torch.uint8)
    masks[..., :5] = 255
    images = torch.randn(batch, shots + 1, 3, side, side, generator=g)
    return images[:, 0], images[:, 1:], masks


def slow_region_map(query: torch.Tensor, keys: torch.Tensor) -> list[list[float]]:
    """One image, position by position: query (C, h, w), keys (C, N)."""
    best = []
    for y in range(query.shape[1]):
        row = []
        for x in range(query.shape[2]):
            q = query[:, y, x]
            row.append(
                max(
                    float(q @ keys[:, n]) / (float(q.norm()) * float(keys[:, n].norm()) + 1e-7)
                    for n in range(keys.shape[1])
                )
            )
        best.append(row)
    low, high = min(map(min, best)), max(map(max, best))
    return [[(v - low) / (high - low + 1e-7) for v in row] for row in best]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 6))
def test_region_map_equals_the_slow_reference(seed: int, side: int, keys: int) -> None:
    g = torch.Generator().manual_seed(seed)
    query, key = torch.rand(2, 3, side, side + 1, generator=g), torch.rand(2, 3, keys, generator=g)
    key[:, :, 0] = 0  # a masked-out support position
    result = region_map(query, key)
    assert result.shape == (2, 1, side, side + 1)
    for i in range(2):
        assert torch.allclose(result[i, 0], torch.tensor(slow_region_map(query[i], key[i])), atol=1e-4)


def test_blocks_of_keys_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    g = torch.Generator().manual_seed(0)
    inputs = [torch.rand(2, 3, 4, 5, generator=g), torch.rand(2, 3, 23, generator=g)]
    results = []
    for block in (100, 7):
        monkeypatch.setattr(correspondence, "KEYS_AT_ONCE", block)
        leaves = [x.clone().requires_grad_() for x in inputs]
        result = region_map(*leaves)
        result.pow(2).sum().backward()
        results.append([result, *(x.grad for x in leaves)])
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("of_all", [False, True])
def test_the_gradient_is_that_of_the_maximum_over_all_keys(monkeypatch: pytest.MonkeyPatch, of_all: bool) -> None:
    monkeypatch.setattr("qgnet.networks.correspondence.KEYS_AT_ONCE", 7)
    torch.manual_seed(0)
    query, keys = torch.randn(3, 6, 4, 5), torch.randn(1 if of_all else 3, 6, 20)
    weights = torch.randn(3, 1, 4, 5)

    def gradients(make: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> tuple[torch.Tensor, ...]:
        leaves = query.clone().requires_grad_(), keys.clone().requires_grad_()
        result = make(*leaves)
        return result, *torch.autograd.grad((result * weights).sum(), leaves)

    def dense(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        q, k = (x / (x.norm(dim=1, keepdim=True) + 1e-7) for x in (q.flatten(2), k))
        best = torch.einsum("bcm,bcn->bmn", q, k.expand(3, -1, -1)).amax(dim=2)
        low, high = best.amin(dim=1, keepdim=True), best.amax(dim=1, keepdim=True)
        return ((best - low) / (high - low + 1e-7)).view(3, 1, 4, 5)

    for found, expected in zip(gradients(region_map), gradients(dense), strict=True):
        assert torch.allclose(found, expected, atol=1e-5)


def test_the_backward_pass_keeps_nothing_of_all_positions_and_all_keys() -> None:
    query, keys = torch.randn(1, 4, 20, 20, requires_grad=True), torch.randn(1, 4, 400, requires_grad=True)
    kept: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        region_map(query, keys).sum().backward()
    assert 0 < max(kept) <= 400 * 4


def test_region_map_stays_in_float32_under_autocast() -> None:
    query = torch.rand(1, 8, 5, 5)
    plain = region_map(query, query.flatten(2)[:, :, :4])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = region_map(query, query.flatten(2)[:, :, :4])
    assert mixed.dtype == torch.float32
    assert torch.equal(plain, mixed)


def test_masked_average_is_the_mean_of_the_foreground() -> None:
    feature = torch.arange(8.0).view(1, 2, 2, 2)
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    assert torch.allclose(masked_average(feature, mask).flatten(), torch.tensor([1.5, 5.5]), atol=1e-2)


@pytest.mark.parametrize(("name", "side"), [("vgg11_bn", 5), ("test_convnext", 9), ("test_efficientnet", 9)])
@pytest.mark.parametrize("high_stage", [3, 4])
def test_qgnet_on_other_encoders(name: str, side: int, high_stage: int) -> None:
    net = QGNet(
        create_encoder(name, high_stage), create_encoder("test_resnet", high_stage), width=8, levels=[9, 0.5]
    ).eval()
    with torch.no_grad():
        output = net(*episode())
    assert output.logits.shape == (2, 2, 65, 65)
    assert output.maps["guided"].shape == output.maps["prior"].shape == (2, 1, side, side)


@pytest.mark.parametrize("high_stage", [3, 4])
@pytest.mark.parametrize("shots", [1, 3])
def test_forward_is_encode_and_decode(high_stage: int, shots: int) -> None:
    net = tiny_qgnet(high_stage).eval()
    query, images, masks = episode(shots=shots)
    with torch.no_grad():
        together = net(query, images, masks)
        each = [net.encode_support(images[:, k], masks[:, k]) for k in range(shots)]
        stacked = net.stack_shots(each)
        apart = net.decode(net.encode_query(query), stacked, (65, 65))
    assert together.logits.shape == (2, 2, 65, 65)
    for guided_or_prior in (together.maps["guided"], together.maps["prior"]):
        assert guided_or_prior.shape == (2, 1, 9, 9)
        assert 0 <= guided_or_prior.min() <= guided_or_prior.max() <= 1
    assert [tuple(x.shape) for x in together.level_logits] == [(2, 2, 9, 9), (2, 2, 4, 4)]
    for one, other in zip(all_tensors(together[:2]), all_tensors(apart[:2]), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_only_the_support_foreground_counts_for_the_category_and_the_guided_map() -> None:
    net = tiny_qgnet().eval()
    query, images, masks = episode(shots=1)
    masks[:] = 0
    masks[..., 16:33, 16:33] = 1
    ignored = masks.clone()
    ignored[masks == 0] = 255
    with torch.no_grad():
        assert torch.equal(net(query, images, masks).logits, net(query, images, ignored).logits)


def test_order_of_the_shots_does_not_matter() -> None:
    net = tiny_qgnet().eval()
    query, images, masks = episode(shots=3)
    with torch.no_grad():
        one, other = net(query, images, masks), net(query, images.flip(1), masks.flip(1))
    assert torch.allclose(one.logits, other.logits, atol=1e-5)


@pytest.mark.parametrize("side", [64, 66, 472])
def test_sides_that_an_encoder_does_not_take_are_refused(side: int) -> None:
    lower = (side - 1) // 8 * 8 + 1
    with pytest.raises(
        InputError, match=rf"An image side is {side}, .*test_resnet does not take. Take {lower} or {lower + 8}\."
    ):
        tiny_qgnet()(*episode(side))


def test_levels_as_sides_and_as_ratios() -> None:
    assert [level_size(s, (60, 60)) for s in (60, 30, 15, 8)] == [(60, 60), (30, 30), (15, 15), (8, 8)]
    assert [level_size(r, (81, 80)) for r in (1, 0.5, 0.25, 0.125)] == [(81, 80), (40, 40), (20, 20), (10, 10)]
    fem = FeatureEnrichment(4, [1, 0.5, 0.25])
    maps = torch.rand(1, 1, 9, 9)
    output = fem(fem.pyramid(torch.rand(1, 4, 9, 9)), torch.rand(1, 4, 1, 1), [maps, maps], (9, 9))
    assert [x.shape[-1] for x in output.level_logits] == [9, 4, 2]


def test_the_papers_size() -> None:
    """METHOD: 67.40 M parameters with ResNet-50, 20.26 M of them trained."""
    net = QGNet(create_encoder("resnet50s"), create_encoder("resnet50"))
    total = sum(p.numel() for p in net.parameters())
    encoders = sum(p.numel() for e in (net.encoder, net.prior_encoder) for p in e.parameters())
    assert round(total / 1e6, 2) == 67.40
    assert round((total - encoders) / 1e6, 2) == 20.26


def test_queue_replaces_the_oldest_and_wraps() -> None:
    pair = MomentumPair(create_encoder("test_resnet", 3, dilated=False), dim=2, queue_size=5)
    first, second = torch.full((3, 2), 1.0), torch.full((3, 2), 2.0)
    untouched = pair.queue[4].clone()
    pair.enqueue(first)
    assert torch.equal(pair.queue[4], untouched)
    pair.enqueue(second)
    assert pair.queue[:, 0].tolist() == [2.0, 1.0, 1.0, 2.0, 2.0]
    assert int(pair.queue_position) == 1
    pair.enqueue(torch.arange(14.0).view(7, 2))
    assert sorted(pair.queue[:, 0].tolist()) == [4.0, 6.0, 8.0, 10.0, 12.0]


def test_key_encoder_is_the_moving_average() -> None:
    pair = MomentumPair(create_encoder("test_resnet", 3, dilated=False), dim=4, queue_size=4, momentum=0.75)
    query, key = (next(e.parameters()) for e in (pair.query, pair.key))
    old = key.clone()
    with torch.no_grad():
        query += 1
    pair.update_key()
    assert torch.allclose(key, 0.75 * old + 0.25 * query)
    assert not key.requires_grad
    assert math.isclose(float(pair.key(torch.randn(2, 3, 32, 32)).norm(dim=1).mean()), 1, abs_tol=1e-5)


def test_the_foregrounds_keys_give_the_map_of_all_keys_whatever_the_others_of_the_batch() -> None:
    g = torch.Generator().manual_seed(3)
    query, key = torch.randn(2, 3, 6, 5, 5, generator=g)  # signed: a dropped position, of similarity 0, can be nearest
    masks = torch.zeros(3, 5, 5, dtype=torch.uint8)
    masks[0, :2], masks[1, 2, 2], masks[2], masks[0, 4] = 1, 1, 1, 255
    masked = key * (masks == 1)[:, None]
    keys = [foreground_keys(masked[i : i + 1], masks[i : i + 1]) for i in range(3)]
    assert [k.shape[2] for k in keys] == [11, 2, 25]
    together = foreground_keys(masked[:2], masks[:2])
    assert together.shape[2] == 11
    for i in range(3):
        expected = region_map(query[i : i + 1], masked[i : i + 1].flatten(2))
        assert torch.allclose(region_map(query[i : i + 1], keys[i]), expected, atol=1e-5)
        if i < 2:
            assert torch.allclose(region_map(query[i : i + 1], together[i : i + 1]), expected, atol=1e-5)


def test_a_query_is_mixed_once_for_all_categories() -> None:
    torch.manual_seed(0)
    fem = FeatureEnrichment(4, [1, 0.5]).eval()
    query, category, maps = torch.rand(1, 4, 9, 9), torch.rand(1, 4, 1, 1), torch.rand(2, 1, 1, 9, 9)
    with torch.no_grad():
        pyramid = fem.pyramid(query)
        whole = fem(pyramid, category, [*maps], (9, 9))
        lean = fem(pyramid, category, [*maps], (9, 9), with_levels=False)
        side_by_side = torch.cat([query, category.expand(-1, -1, 9, 9), *maps], dim=1)
        mixed = torch.relu(pyramid[0] + fem.category_and_maps(0, category, [*maps], (9, 9)))
        assert torch.allclose(mixed, fem.mix[0](side_by_side), atol=1e-5)
    assert torch.equal(whole.logits, lean.logits)
    assert lean.level_logits == []
