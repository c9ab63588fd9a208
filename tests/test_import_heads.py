"""Released HSNet and DCAMA: files of their names, whose networks are computed here from those names alone."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import Command
from torch import Tensor
from torchvision.models.resnet import Bottleneck, ResNet

from qgnet.commands import main as qgnet
from qgnet.inference.models import open_model

SIDE = 65
Weights = dict[str, Tensor]


def normalised_block(channels: list[int], kernels: list[int], name: str, two: bool) -> Weights:
    """Three convolutions (of two parts each, or one) with group normalisation, as a Sequential of nine."""
    weights: Weights = {}
    for i, kernel in enumerate(kernels):
        for part in (f"{3 * i}.conv1", f"{3 * i}.conv2") if two else (f"{3 * i}",):
            weights |= conv(f"{name}.{part}", channels[i], channels[i + 1], kernel)
        weights[f"{name}.{3 * i + 1}.weight"] = torch.rand(channels[i + 1]) + 0.5
        weights[f"{name}.{3 * i + 1}.bias"] = torch.randn(channels[i + 1]) / 5
    return weights


def conv(name: str, inside: int, outside: int, kernel: int = 3) -> Weights:
    scale = (2 / (inside * kernel**2)) ** 0.5
    return {
        f"{name}.weight": torch.randn(outside, inside, kernel, kernel) * scale,
        f"{name}.bias": torch.randn(outside) / 5,
    }


def two_convs(name: str, *channels: int) -> Weights:
    return conv(f"{name}.0", *channels[:2]) | conv(f"{name}.2", *channels[1:])


def resnet(prefix: str, blocks: tuple[int, ...]) -> Weights:
    net = ResNet(Bottleneck, list(blocks), num_classes=5)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.8, 1.6)
    return {f"{prefix}.{key}": value for key, value in net.state_dict().items()}


BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
WIDTHS, SAME = [16, 64, 128], [128] * 4


def hsnet(encoder: str = "resnet50") -> Weights:
    torch.manual_seed(0)
    _, two, three, four = BLOCKS[encoder]
    weights = resnet("backbone", BLOCKS[encoder])
    for name, number, kernels in (("4", four, [3, 3, 3]), ("3", three, [5, 3, 3]), ("2", two, [5, 5, 3])):
        weights |= normalised_block([number, *WIDTHS], kernels, f"hpn_learner.encoder_layer{name}", two=True)
    for name in ("4to3", "3to2"):
        weights |= normalised_block(SAME, [3, 3, 3], f"hpn_learner.encoder_layer{name}", two=True)
    return weights | two_convs("hpn_learner.decoder1", 128, 128, 64) | two_convs("hpn_learner.decoder2", 64, 64, 2)


def dcama(encoder: str = "resnet50") -> Weights:
    torch.manual_seed(0)
    _, two, three, four = BLOCKS[encoder]
    weights = resnet("feature_extractor", BLOCKS[encoder])
    for i, channels in enumerate((512, 1024, 2048)):
        for part in range(2):
            weights[f"model.DCAMA_blocks.{i}.linears.{part}.weight"] = torch.randn(channels, channels) / channels**0.5
            weights[f"model.DCAMA_blocks.{i}.linears.{part}.bias"] = torch.randn(channels) / 5
        weights[f"model.pe.{i}.pe"] = torch.zeros(1, 100, channels)
    for name, number, kernels in (("1", four, [3, 3, 3]), ("2", three, [5, 3, 3]), ("3", two, [5, 5, 3])):
        weights |= normalised_block([number, *WIDTHS], kernels, f"model.conv{name}", two=False)
    for name in ("4", "5"):
        weights |= normalised_block(SAME, [3, 3, 3], f"model.conv{name}", two=False)
    weights |= two_convs("model.mixer1", 128 + 2 * 512 + 2 * 256, 128, 64)
    return weights | two_convs("model.mixer2", 64, 64, 16) | two_convs("model.mixer3", 16, 16, 2)


def features(w: Weights, prefix: str, image: Tensor) -> list[list[Tensor]]:
    """The sums of all bottlenecks before their last ReLU, per stage."""

    def conv_norm(name: str, norm: str, x: Tensor, stride: int = 1) -> Tensor:
        x = F.conv2d(x, w[f"{name}.weight"], None, stride, w[f"{name}.weight"].shape[-1] // 2)
        values = [w[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *values, training=False)

    x = F.max_pool2d(F.relu(conv_norm(f"{prefix}.conv1", f"{prefix}.bn1", image, 2)), 3, 2, 1)
    found = []
    for stage in range(1, 5):
        found.append([])
        while f"{prefix}.layer{stage}.{len(found[-1])}.conv1.weight" in w:
            name = f"{prefix}.layer{stage}.{len(found[-1])}"
            stride = 2 if stage > 1 and not found[-1] else 1
            y = F.relu(conv_norm(f"{name}.conv1", f"{name}.bn1", x))
            y = F.relu(conv_norm(f"{name}.conv2", f"{name}.bn2", y, stride))
            y = conv_norm(f"{name}.conv3", f"{name}.bn3", y)
            down = f"{name}.downsample"
            y = y + (conv_norm(f"{down}.0", f"{down}.1", x, stride) if f"{down}.0.weight" in w else x)
            found[-1].append(y)
            x = F.relu(y)
    return found


def bilinear(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


def two(w: Weights, name: str, x: Tensor, end: bool = False) -> Tensor:
    x = F.relu(F.conv2d(x, w[f"{name}.0.weight"], w[f"{name}.0.bias"], padding=1))
    x = F.conv2d(x, w[f"{name}.2.weight"], w[f"{name}.2.bias"], padding=1)
    return x if end else F.relu(x)


def each(x: Tensor, layer: Callable[[Tensor], Tensor], of_query: bool) -> Tensor:
    """A 2D layer over (C, h, w, h', w') at each support position, or at each query position."""
    x = x if of_query else x.permute(0, 3, 4, 1, 2)
    rows = [torch.stack([layer(x[None, ..., i, j])[0] for j in range(x.shape[4])], -1) for i in range(x.shape[3])]
    y = torch.stack(rows, -2)
    return y if of_query else y.permute(0, 3, 4, 1, 2)


def block_4d(w: Weights, name: str, x: Tensor, strides: tuple[int, ...]) -> Tensor:
    for i, stride in enumerate(strides):
        first, second = (f"{name}.{3 * i}.conv{part}" for part in (1, 2))
        pad = w[f"{first}.weight"].shape[-1] // 2
        kept = x[..., ::stride, ::stride]
        over_query = each(kept, lambda t: F.conv2d(t, w[f"{first}.weight"], w[f"{first}.bias"], padding=pad), True)  # noqa: B023
        over_support = each(x, lambda t: F.conv2d(t, w[f"{second}.weight"], w[f"{second}.bias"], stride, pad), False)  # noqa: B023
        norm = f"{name}.{3 * i + 1}"
        x = F.relu(F.group_norm((over_query + over_support)[None], 4, w[f"{norm}.weight"], w[f"{norm}.bias"])[0])
    return x


def released_hsnet(w: Weights, image: Tensor, support: Tensor, mask: Tensor) -> Tensor:
    pyramid = []
    mine, theirs = (features(w, "backbone", x)[1:] for x in (image, support))
    for ours, others in zip(mine, theirs, strict=True):
        maps = []
        for q, s in zip(ours, others, strict=True):
            s = s * bilinear((mask == 1).float()[None], tuple(s.shape[2:]))  # noqa: PLW2901
            q, s = (x[0] / (x[0].norm(dim=0) + 1e-5) for x in (q, s))  # noqa: PLW2901
            maps.append(torch.einsum("cij,ckl->ijkl", q, s).clamp(min=0))
        pyramid.append(torch.stack(maps))
    strides = ((4, 4, 2), (4, 2, 2), (2, 2, 2))
    levels = zip((2, 3, 4), pyramid, strides, strict=True)
    fine, middle, coarse = (block_4d(w, f"hpn_learner.encoder_layer{n}", x, s) for n, x, s in levels)
    mixed = each(coarse, lambda t: bilinear(t, tuple(middle.shape[1:3])), True) + middle
    mixed = block_4d(w, "hpn_learner.encoder_layer4to3", mixed, (1, 1, 1))
    mixed = each(mixed, lambda t: bilinear(t, tuple(fine.shape[1:3])), True) + fine
    mixed = block_4d(w, "hpn_learner.encoder_layer3to2", mixed, (1, 1, 1)).mean(dim=(3, 4))[None]
    decoded = two(w, "hpn_learner.decoder1", mixed)
    decoded = bilinear(decoded, tuple(2 * n for n in decoded.shape[2:]))
    return bilinear(two(w, "hpn_learner.decoder2", decoded, end=True), (SIDE, SIDE))


def block_2d(w: Weights, name: str, x: Tensor) -> Tensor:
    for i in range(0, 9, 3):
        kernel, norm = w[f"{name}.{i}.weight"], f"{name}.{i + 1}"
        x = F.conv2d(x, kernel, w[f"{name}.{i}.bias"], padding=kernel.shape[-1] // 2)
        x = F.relu(F.group_norm(x, 4, w[f"{norm}.weight"], w[f"{norm}.bias"]))
    return x


def released_dcama(w: Weights, image: Tensor, support: Tensor, mask: Tensor) -> Tensor:
    mine, theirs = (features(w, "feature_extractor", x) for x in (image, support))
    levels = []
    for i, (ours, others) in enumerate(zip(mine[1:], theirs[1:], strict=True)):
        masks = []
        for q, s in zip(ours, others, strict=True):
            size, channels = tuple(q.shape[2:]), q.shape[1]
            place = torch.arange(math.prod(size))[:, None] / 10_000 ** (torch.arange(0, channels, 2) / channels)
            encoding = torch.stack([place.sin(), place.cos()], dim=2).flatten(1)
            name = f"model.DCAMA_blocks.{i}.linears"
            one, other = (
                F.linear(x[0].flatten(1).T + encoding, w[f"{name}.{part}.weight"], w[f"{name}.{part}.bias"])
                for part, x in enumerate((q, s))
            )
            one, other = (x.unflatten(1, (8, -1)).transpose(0, 1) for x in (one, other))
            weights = (one @ other.transpose(1, 2) / math.sqrt(channels / 8)).softmax(dim=2)
            values = bilinear((mask == 1).float()[None], size).flatten()
            masks.append((weights @ values).mean(dim=0).view(size))
        levels.append(torch.stack(masks)[None])
    fine, middle, coarse = (block_2d(w, f"model.conv{n}", x) for n, x in zip((3, 2, 1), levels, strict=True))
    mixed = block_2d(w, "model.conv4", bilinear(coarse, tuple(middle.shape[2:])) + middle)
    mixed = block_2d(w, "model.conv5", bilinear(mixed, tuple(fine.shape[2:])) + fine)
    for stage in (1, 0):
        skips = mine[stage][-1], theirs[stage][-1]
        mixed = torch.cat([bilinear(mixed, tuple(skips[0].shape[2:])), *skips], dim=1)
    for name in ("mixer1", "mixer2"):
        mixed = two(w, f"model.{name}", mixed)
        mixed = bilinear(mixed, tuple(2 * n for n in mixed.shape[2:]))
    return bilinear(two(w, "model.mixer3", mixed, end=True), (SIDE, SIDE))


FILES = {"hsnet": (hsnet, released_hsnet, 401), "dcama": (dcama, released_dcama, 385)}


def write(weights: Weights, file: str) -> None:
    """As DataParallel's state dict, which the authors' code saves."""
    torch.save({f"module.{key}": value for key, value in weights.items()}, file)


@torch.no_grad()
@pytest.mark.parametrize("head", FILES)
def test_an_imported_head_predicts_as_the_released_one(workdir: Path, head: str, capsys: pytest.CaptureFixture) -> None:
    make, released, side = FILES[head]
    weights = make()
    write(weights, "released.pt")
    qgnet(["import-weights", "released.pt", "ours.ckpt"])
    said = capsys.readouterr().out
    assert "encoder resnet50." in said
    assert f"--config heads/{head}.yaml " in said
    model = open_model(Path("ours.ckpt"))
    assert (model.kind, model.image_size) == (head, side)
    image, support = torch.randn(2, 1, 3, SIDE, SIDE)
    mask = torch.zeros(1, SIDE, SIDE, dtype=torch.uint8)
    mask[:, 10:50, 20:60], mask[:, :3] = 1, 255
    expected = released(weights, image, support, mask)
    found = model.net(image, support[None], mask[None]).logits
    assert float(expected.std()) > 0.01
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("head", FILES)
def test_an_imported_head_is_tested_by_the_command(command: Command, head: str) -> None:
    write(FILES[head][0](), "released.pt")
    qgnet(["import-weights", "released.pt", "ours.ckpt"])
    settings = ["--model.encoder=resnet50", "--ckpt_path=ours.ckpt", "--run=tested", "--data.episodes=2"]
    command("test", f"heads/{head}.yaml", *settings)
    assert Path("tested/results.json").is_file()


@pytest.mark.parametrize("head", FILES)
def test_of_a_resnet_101(workdir: Path, head: str) -> None:
    write(FILES[head][0]("resnet101"), "released.pt")
    qgnet(["import-weights", "released.pt", "ours.ckpt"])
    assert open_model(Path("ours.ckpt")).settings["encoder"] == "resnet101"


@pytest.mark.parametrize(
    ("head", "key", "message"),
    [
        ("hsnet", "hpn_learner.encoder_layer4.3.conv2.bias", "1 missing: hpn_learner.encoder_layer4.3.conv2.bias"),
        ("dcama", "model.mixer2.2.weight", "1 missing: model.mixer2.2.weight"),
        ("hsnet", "backbone.layer3.2.bn1.weight", "1 missing: backbone.layer3.2.bn1.weight"),
    ],
)
def test_an_incomplete_file_is_refused(
    workdir: Path, head: str, key: str, message: str, capsys: pytest.CaptureFixture
) -> None:
    weights = FILES[head][0]()
    del weights[key]
    write(weights, "released.pt")
    with pytest.raises(SystemExit, match="2"):
        qgnet(["import-weights", "released.pt", "ours.ckpt"])
    assert message in capsys.readouterr().err
    assert not Path("ours.ckpt").exists()


@pytest.mark.parametrize(
    ("head", "encoder", "other"),
    [
        ("hsnet", "backbone", "backbone.features.0.weight"),
        ("dcama", "feature_extractor", "feature_extractor.norm.bias"),
    ],
)
def test_other_encoders_are_refused(
    workdir: Path, head: str, encoder: str, other: str, capsys: pytest.CaptureFixture
) -> None:
    """VGG of HSNet, Swin of DCAMA."""
    weights = {key: value for key, value in FILES[head][0]().items() if not key.startswith(f"{encoder}.")}
    write({**weights, other: torch.zeros(3)}, "released.pt")
    with pytest.raises(SystemExit, match="2"):
        qgnet(["import-weights", "released.pt", "ours.ckpt"])
    assert "which is no known backbone. Expected: ResNet-18, 34, 50, 101 or 152" in capsys.readouterr().err
