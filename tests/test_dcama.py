"""DCAMA against a slow reference, one query position and head at a time; its sizes."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from qgnet.networks.dcama import DCAMA, Projections, gather_mask, positional_encoding
from qgnet.networks.encoders import create_encoder

HEADS = 8


def encoded(feature: Tensor) -> Tensor:
    """(C, h, w) → (h * w, C) with sine and cosine of its place in the flattened image."""
    flat = feature.flatten(1).T.clone()
    length, channels = flat.shape
    for place in range(length):
        for i in range(0, channels, 2):
            angle = place / 10_000 ** (i / channels)
            flat[place, i] += math.sin(angle)
            flat[place, i + 1] += math.cos(angle)
    return flat


def attend(net: DCAMA, kind: str, query: Tensor, shots: list[Tensor], masks: list[Tensor]) -> Tensor:
    """The mask at each position of a query's feature (C, h, w), from all shots' features and masks (h, w)."""
    projection = net.attention[kind]
    mine = projection.query(encoded(query))
    theirs = torch.cat([projection.key(encoded(shot)) for shot in shots])
    values = torch.cat([mask.flatten() for mask in masks])
    width = mine.shape[1] // HEADS
    gathered = []
    for position in mine:
        by_head = []
        for head in range(HEADS):
            part = slice(head * width, (head + 1) * width)
            weights = ((theirs[:, part] @ position[part]) / math.sqrt(width)).softmax(dim=0)
            by_head.append(weights @ values)
        gathered.append(torch.stack(by_head).mean())
    return torch.stack(gathered).view(query.shape[1:])


def bilinear(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


def convolutions(layers: torch.nn.Sequential, x: Tensor) -> Tensor:
    for conv, norm, _ in zip(*[iter(layers)] * 3, strict=True):
        x = F.conv2d(x, conv.weight, conv.bias, padding=conv.weight.shape[-1] // 2)
        x = F.relu(F.group_norm(x, 4, norm.weight, norm.bias))
    return x


def two_convolutions(layers: torch.nn.Sequential, x: Tensor, end: bool = False) -> Tensor:
    x = F.relu(F.conv2d(x, layers[0].weight, layers[0].bias, padding=1))
    x = F.conv2d(x, layers[2].weight, layers[2].bias, padding=1)
    return x if end else F.relu(x)


@torch.no_grad()
@pytest.mark.parametrize("shots", [1, 3])
def test_dcama_equals_the_plain_reference(shots: int) -> None:
    torch.manual_seed(0)
    net = DCAMA(create_encoder("test_resnet", dilated=False)).eval()
    image, supports = torch.randn(1, 3, 65, 65), torch.randn(shots, 3, 65, 65)
    masks = torch.zeros(shots, 65, 65, dtype=torch.uint8)
    for k in range(shots):
        masks[k, 8 + 4 * k : 50, 10:40], masks[k, :, 60:] = 1, 255
    encoder = net.encoder
    levels = [list(encoder.blocks_of(level)) for level in encoder.levels]
    names = [name for of_level in levels for name in of_level]
    mine, theirs = encoder(image, names), encoder(supports, names)
    coarse = []
    for i, of_level in enumerate(levels[1:]):
        size = tuple(mine[of_level[0]].shape[-2:])
        soft = [bilinear((mask == 1).float()[None, None], size)[0, 0] for mask in masks]
        kinds = [f"{i}x{mine[name].shape[1]}" for name in of_level]
        pairs = zip(kinds, of_level, strict=True)
        found = [attend(net, kind, mine[name][0], list(theirs[name]), soft) for kind, name in pairs]
        coarse.append(convolutions(net.mixer.squeeze[i], torch.stack(found)[None]))
    fine, middle, coarsest = coarse
    mixed = convolutions(net.mixer.mix[1], bilinear(coarsest, tuple(middle.shape[2:])) + middle)
    mixed = convolutions(net.mixer.mix[0], bilinear(mixed, tuple(fine.shape[2:])) + fine)
    for of_level in (levels[1], levels[0]):
        name = of_level[-1]
        mixed = bilinear(mixed, tuple(mine[name].shape[2:]))
        mixed = torch.cat([mixed, mine[name], theirs[name].max(dim=0, keepdim=True).values], dim=1)
    mixed = two_convolutions(net.mixer.mixers[0], mixed)
    mixed = two_convolutions(net.mixer.mixers[1], bilinear(mixed, (34, 34)))
    logits = two_convolutions(net.mixer.mixers[2], bilinear(mixed, (68, 68)), end=True)
    expected = bilinear(logits, (65, 65))
    found = net(image, supports[None], masks[None]).logits
    assert float(expected.std()) > 1e-3
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("name", "parameters"), [("resnet50", 14_215_394), ("resnet101", 14_222_194)])
def test_the_head_has_the_released_parameters(name: str, parameters: int) -> None:
    """Counted on the released ``DCAMA_model``."""
    net = DCAMA(create_encoder(name, dilated=False))
    assert sum(p.numel() for key, p in net.named_parameters() if not key.startswith("encoder.")) == parameters


@torch.no_grad()
def test_a_mask_of_one_kind_gathers_itself_and_many_positions_are_as_few() -> None:
    torch.manual_seed(0)
    query, keys = torch.randn(2, 16, 40, 40), torch.randn(1, 7, 16)  # more positions than attend at once
    assert torch.allclose(gather_mask(query, keys, torch.ones(1, 7)), torch.ones(2, 1, 40, 40), atol=1e-6)
    assert not gather_mask(query, keys, torch.zeros(1, 7)).any()
    mask = torch.rand(1, 7)
    rows = torch.cat([gather_mask(query[:, :, i : i + 1], keys, mask) for i in range(40)], dim=2)
    assert torch.allclose(gather_mask(query, keys, mask), rows, atol=1e-6)


def test_positions_are_told_apart() -> None:
    encoding = positional_encoding(50, 16, torch.device("cpu"))
    assert torch.equal(encoding[0], torch.tensor([0.0, 1.0] * 8))
    assert len({tuple(row) for row in encoding.tolist()}) == 50


def test_training_drops_at_random_and_has_a_gradient() -> None:
    torch.manual_seed(0)
    net = DCAMA(create_encoder("test_resnet", dilated=False)).train()
    masks = torch.zeros(1, 1, 65, 65, dtype=torch.uint8)
    masks[..., 8:40, 8:40] = 1
    given = torch.randn(1, 3, 65, 65), torch.randn(1, 1, 3, 65, 65), masks
    first = net(*given).logits
    assert not torch.equal(first, net(*given).logits)
    first[:, 1].sum().backward()
    assert all(p.grad is not None for key, p in net.named_parameters() if not key.startswith("encoder."))


def test_other_encoders_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 4, 8, 16, 32, as of"):
        DCAMA(create_encoder("resnet18", dilated=True))
    with pytest.raises(ValueError, match="has 12 channels, which 8 heads cannot share"):
        Projections(12)
