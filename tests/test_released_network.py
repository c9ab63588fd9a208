"""QGNet against a slow, plain reference of the released network, written from the description of the method alone.

The reference knows nothing of this project but the names of the weights: functional calls, one image at a time, loops
over blocks, shots, rows of positions and levels. Its ResNet-50 is written out too, which checks the dilation.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qgnet.networks.encoders import create_encoder
from qgnet.networks.qgnet import QGNet

SIDE = 473
FEATURE_SIDE = 60
LEVELS = [60, 30, 15, 8]
Weights = dict[str, Tensor]


def bilinear(x: Tensor, side: int) -> Tensor:
    return F.interpolate(x, (side, side), mode="bilinear", align_corners=True)


def conv_bn(w: Weights, conv: str, bn: str, x: Tensor, stride: int = 1, padding: int = 0, dilation: int = 1) -> Tensor:
    x = F.conv2d(x, w[f"{conv}.weight"], None, stride, padding, dilation)
    mean, var = w[f"{bn}.running_mean"], w[f"{bn}.running_var"]
    return F.batch_norm(x, mean, var, w[f"{bn}.weight"], w[f"{bn}.bias"], training=False, eps=1e-5)


def bottleneck(w: Weights, block: str, x: Tensor, stride: int, dilation: int) -> Tensor:
    y = F.relu(conv_bn(w, f"{block}.conv1", f"{block}.bn1", x))
    y = F.relu(conv_bn(w, f"{block}.conv2", f"{block}.bn2", y, stride, padding=dilation, dilation=dilation))
    y = conv_bn(w, f"{block}.conv3", f"{block}.bn3", y)
    if f"{block}.downsample.0.weight" in w:
        x = conv_bn(w, f"{block}.downsample.0", f"{block}.downsample.1", x, stride)
    return F.relu(x + y)


def stage(w: Weights, net: str, number: int, x: Tensor) -> Tensor:
    """Stage 2 halves the side; stage 3 has dilation 2 and stage 4 dilation 4, their first blocks too."""
    blocks = {1: 3, 2: 4, 3: 6, 4: 3}[number]
    dilation = {1: 1, 2: 1, 3: 2, 4: 4}[number]
    for i in range(blocks):
        x = bottleneck(w, f"{net}.layer{number}.{i}", x, 2 if number == 2 and i == 0 else 1, dilation)
    return x


def stages_2_and_3(w: Weights, net: str, image: Tensor, deep_stem: bool) -> tuple[Tensor, Tensor]:
    if deep_stem:
        x = F.relu(conv_bn(w, f"{net}.conv1.0", f"{net}.conv1.1", image, stride=2, padding=1))
        x = F.relu(conv_bn(w, f"{net}.conv1.3", f"{net}.conv1.4", x, padding=1))
        x = F.relu(conv_bn(w, f"{net}.conv1.6", f"{net}.bn1", x, padding=1))
    else:
        x = F.relu(conv_bn(w, f"{net}.conv1", f"{net}.bn1", image, stride=2, padding=3))
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    f2 = stage(w, net, 2, stage(w, net, 1, x))
    return f2, stage(w, net, 3, f2)


def best_cosine(query: Tensor, keys: Tensor) -> Tensor:
    """(1, C, h, w) each → (1, 1, h, w), one row of query positions after the other."""
    keys = keys[0].flatten(1)
    key_lengths = keys.pow(2).sum(0).sqrt()
    rows = []
    for y in range(query.shape[2]):
        row = query[0, :, y]
        products = row.t() @ keys
        lengths = row.pow(2).sum(0).sqrt()[:, None] * key_lengths[None]
        rows.append((products / (lengths + 1e-7)).max(dim=1).values)
    best = torch.stack(rows)
    return ((best - best.min()) / (best.max() - best.min() + 1e-7))[None, None]


def reduced(w: Weights, name: str, x: Tensor) -> Tensor:
    """The heads' convolution to 256 channels; their dropout does nothing in evaluation."""
    weight = w[f"{name}.0.weight"]
    return F.relu(F.conv2d(x, weight, padding=weight.shape[-1] // 2))


def two_convs(w: Weights, name: str, x: Tensor) -> Tensor:
    x = F.relu(F.conv2d(x, w[f"{name}.0.weight"], padding=1))
    return F.relu(F.conv2d(x, w[f"{name}.2.weight"], padding=1))


def two_labels(w: Weights, name: str, x: Tensor) -> Tensor:
    x = F.relu(F.conv2d(x, w[f"{name}.0.weight"], padding=1))
    return F.conv2d(x, w[f"{name}.3.weight"], w[f"{name}.3.bias"])


def reference_query(w: Weights, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(1, 3, H, H) → its reduced feature, its F4 and the prior map."""
    f2, f3 = stages_2_and_3(w, "encoder.net", image, deep_stem=True)
    f4 = stage(w, "encoder.net", 4, f3)
    feature = reduced(w, "reduce_query", torch.cat([f3, f2], dim=1))
    _, p3 = stages_2_and_3(w, "prior_encoder.net", image, deep_stem=False)
    priors = reduced(w, "reduce_priors", stage(w, "prior_encoder.net", 4, p3))
    return feature, f4, best_cosine(reduced(w, "reduce_self", f4), priors)


def reference_support(w: Weights, query_f4: Tensor, f2: Tensor, f3: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """One shot, its image's F2 and F3 and its mask (1, H, H) → its category feature and its guided map."""
    mask = bilinear((mask == 1).float()[None], FEATURE_SIDE)
    feature = reduced(w, "reduce_support", torch.cat([f3, f2], dim=1))
    category = (feature * mask).sum(dim=(2, 3), keepdim=True) / (mask.sum() + 0.0005)
    f4 = stage(w, "encoder.net", 4, f3 * mask) * mask
    return category, best_cosine(query_f4, f4)


def reference_prediction(
    w: Weights, query_feature: Tensor, category: Tensor, guided_map: Tensor, prior_map: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """→ logits at the image's size, and the levels' at theirs."""
    full, level_logits = [], []
    before = torch.empty(0)
    for i, side in enumerate(LEVELS):
        feature = F.adaptive_avg_pool2d(query_feature, side)
        maps = [bilinear(guided_map, side), bilinear(prior_map, side)]
        mixed = torch.cat([feature, category.expand(1, 256, side, side), *maps], dim=1)
        x = F.relu(F.conv2d(mixed, w[f"enrichment.mix.{i}.0.weight"]))
        if i > 0:
            both = torch.cat([x, bilinear(before, side)], dim=1)
            x = x + F.relu(F.conv2d(both, w[f"enrichment.from_finer.{i - 1}.0.weight"]))
        x = x + two_convs(w, f"enrichment.refine.{i}", x)
        level_logits.append(two_labels(w, f"enrichment.level_classifiers.{i}", x))
        before = bilinear(x, FEATURE_SIDE)
        full.append(before)
    x = F.relu(F.conv2d(torch.cat(full, dim=1), w["enrichment.merge.0.weight"]))
    x = x + two_convs(w, "enrichment.refine_merged", x)
    return bilinear(two_labels(w, "enrichment.classifier", x), SIDE), level_logits


def randomise(net: nn.Module) -> None:
    """Random weights, and statistics of batch norm that are anything but 0 and 1."""
    g = torch.Generator().manual_seed(0)
    net.eval()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() == 4:
                fan_in = math.prod(parameter.shape[1:])
                parameter.normal_(0, (2 / fan_in) ** 0.5, generator=g)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.0, generator=g)
                module.bias.normal_(0, 0.2, generator=g)
                module.running_mean.normal_(0, 0.2, generator=g)
                module.running_var.uniform_(0.5, 2.0, generator=g)


def relative_error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def random_images(number: int) -> Tensor:
    g = torch.Generator().manual_seed(1)
    blobs = bilinear(torch.randn(number, 3, 12, 12, generator=g), SIDE)
    return blobs + 0.3 * torch.randn(number, 3, SIDE, SIDE, generator=g)


def random_masks(number: int) -> Tensor:
    masks = torch.zeros(number, 1, SIDE, SIDE, dtype=torch.uint8)
    for k in range(number):
        masks[k, :, 60 + 20 * k : 260 + 20 * k, 100:333] = 1
        masks[k, :, :, 440:] = 255
    return masks


@torch.no_grad()
def test_qgnet_equals_the_plain_reference() -> None:
    """1-shot and 5-shot at 473 px, five masks on two images; QGNet's forward is encode and decode."""
    net = QGNet(create_encoder("resnet50s"), create_encoder("resnet50"), width=256, levels=LEVELS)
    randomise(net)
    weights = net.state_dict()
    query_image, *images = random_images(3).split(1)
    masks = random_masks(5)
    feature, f4, prior_map = reference_query(weights, query_image)
    stages = [stages_2_and_3(weights, "encoder.net", image, deep_stem=True) for image in images]
    shots = [reference_support(weights, f4, *stages[k % 2], mask) for k, mask in enumerate(masks)]
    query = net.encode_query(query_image)
    supports = [net.encode_support(images[k % 2], mask) for k, mask in enumerate(masks)]
    for number in (1, 5):
        stacked = net.stack_shots(supports[:number])
        found = net.decode(query, stacked, (SIDE, SIDE))
        category = sum(category for category, _ in shots[:number]) / number
        guided_map = sum(guided for _, guided in shots[:number]) / number
        logits, level_logits = reference_prediction(weights, feature, category, guided_map, prior_map)
        assert min(float(x.std()) for x in (logits, guided_map, prior_map)) > 0.01
        assert relative_error(found.logits, logits) <= 1e-4
        assert relative_error(found.maps["guided"], guided_map) <= 1e-4
        assert relative_error(found.maps["prior"], prior_map) <= 1e-4
        for one, other in zip(found.level_logits, level_logits, strict=True):
            assert relative_error(one, other) <= 1e-4


@torch.no_grad()
@pytest.mark.parametrize(("stage_number", "dilation"), [(3, 1), (4, 1), (4, 2)])
def test_the_reference_notices_another_dilation(stage_number: int, dilation: int) -> None:
    net = create_encoder("resnet50s")
    randomise(net)
    weights = {f"encoder.net.{key}": value for key, value in net.net.state_dict().items()}
    image = random_images(1)[..., :129, :129]
    f3 = stages_2_and_3(weights, "encoder.net", image, deep_stem=True)[1]
    f4 = stage(weights, "encoder.net", 4, f3)
    assert relative_error(net.encode_high(image), f4) <= 1e-4
    conv = net.net[f"layer{stage_number}"][0].conv2
    conv.dilation = conv.padding = (dilation, dilation)
    assert relative_error(net.encode_high(image), f4) > 1e-2
