import json
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import Command
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18
from torchvision.models.resnet import Bottleneck, ResNet

from qgnet.commands import main as qgnet
from qgnet.inference.models import checkpoint_model
from qgnet.networks.encoders import create_encoder
from qgnet.networks.qgnet import QGNet
from qgnet.tasks.segmentation import FewShotSegmentation
from qgnet.weights.store import load_encoder_weights, save_prior_extractor

WIDTH = 8
LEVELS = [9, 0.5]


class Backbone(nn.Module):
    """torchvision's ResNet-50, stages 3 and 4 dilated, with the stem as a Sequential, the deep one on demand."""

    def __init__(self, deep: bool) -> None:
        super().__init__()
        net = ResNet(Bottleneck, [3, 4, 6, 3])
        if deep:
            net.inplanes = 128
            net.layer1 = net._make_layer(Bottleneck, 64, 3)
            stem = [nn.Conv2d(3, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
            stem += [nn.Conv2d(64, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
            stem += [nn.Conv2d(64, 128, 3, 1, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU()]
        else:
            stem = [net.conv1, net.bn1, net.relu]
        self.stages = [nn.Sequential(*stem, net.maxpool), net.layer1, net.layer2, net.layer3, net.layer4]
        for stage, dilation in ((3, 2), (4, 4)):
            for block in self.stages[stage]:
                block.conv2.stride, block.conv2.dilation, block.conv2.padding = 1, dilation, dilation
                if block.downsample is not None:
                    block.downsample[0].stride = 1


class Released(nn.Module):
    """A second QGNet, or PFENet, whose modules have the released names; written to be read, not to be fast."""

    def __init__(self, prior: bool) -> None:
        super().__init__()
        self.prior = prior
        backbones = {"": Backbone(deep=True)} | ({"_unsuper": Backbone(deep=False)} if prior else {})
        for suffix, backbone in backbones.items():
            for stage in range(5):
                self.add_module(f"layer{stage}{suffix}", backbone.stages[stage])
        self.down_query = self.conv(1536)
        self.down_supp = self.conv(1536)
        if prior:
            self.down_learn_super = self.conv(2048, 3)
            self.down_learn_unsuper = self.conv(2048, 3)
        self.init_merge = nn.ModuleList(self.conv(2 * WIDTH + 1 + prior) for _ in LEVELS)
        self.alpha_conv = nn.ModuleList(self.conv(2 * WIDTH) for _ in LEVELS[1:])
        self.beta_conv = nn.ModuleList(self.two() for _ in LEVELS)
        self.inner_cls = nn.ModuleList(self.classify() for _ in LEVELS)
        self.res1 = self.conv(len(LEVELS) * WIDTH)
        self.res2 = self.two()
        self.cls = self.classify()

    def conv(self, channels: int, side: int = 1) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(channels, WIDTH, side, padding=side // 2, bias=False), nn.ReLU())

    def two(self) -> nn.Sequential:
        return nn.Sequential(*self.conv(WIDTH, 3), *self.conv(WIDTH, 3))

    def classify(self) -> nn.Sequential:
        return nn.Sequential(*self.conv(WIDTH, 3), nn.Dropout2d(0.1), nn.Conv2d(WIDTH, 2, 1))

    def stages(self, x: torch.Tensor, suffix: str = "") -> list[torch.Tensor]:
        outputs = []
        for stage in range(5):
            x = self.get_submodule(f"layer{stage}{suffix}")(x)
            outputs.append(x)
        return outputs

    def most_similar(self, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        cosine = torch.einsum("bcn,bcm->bnm", F.normalize(keys.flatten(2), dim=1), F.normalize(query.flatten(2), dim=1))
        best = cosine.amax(1)
        low, high = best.amin(1, keepdim=True), best.amax(1, keepdim=True)
        return ((best - low) / (high - low)).view(len(query), 1, *query.shape[2:])

    def forward(self, query: torch.Tensor, supports: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        _, _, query_2, query_3, query_4 = self.stages(query)
        feature = self.down_query(torch.cat([query_3, query_2], 1))
        categories, guided = [], []
        for k in range(supports.shape[1]):
            _, _, support_2, support_3, _ = self.stages(supports[:, k])
            mask = F.interpolate((masks[:, k : k + 1] == 1).float(), (9, 9), mode="bilinear", align_corners=True)
            reduced = self.down_supp(torch.cat([support_3, support_2], 1))
            categories.append((reduced * mask).sum((2, 3), keepdim=True) / (mask.sum((2, 3), keepdim=True) + 0.0005))
            guided.append(self.most_similar(query_4, self.layer4(support_3 * mask) * mask))
        maps = [torch.stack(guided).mean(0)]
        if self.prior:
            priors = self.down_learn_unsuper(self.stages(query, "_unsuper")[4])
            maps.append(self.most_similar(self.down_learn_super(query_4), priors))
        category = torch.stack(categories).mean(0)
        outputs: list[torch.Tensor] = []
        for i, side in enumerate((9, 4)):
            pooled = F.adaptive_avg_pool2d(feature, side)
            small = [F.interpolate(m, (side, side), mode="bilinear", align_corners=True) for m in maps]
            x = self.init_merge[i](torch.cat([pooled, category.expand(-1, -1, side, side), *small], 1))
            if i:
                finer = F.interpolate(outputs[-1], (side, side), mode="bilinear", align_corners=True)
                x = self.alpha_conv[i - 1](torch.cat([x, finer], 1)) + x
            x = self.beta_conv[i](x) + x
            outputs.append(F.interpolate(x, (9, 9), mode="bilinear", align_corners=True))
        x = self.res1(torch.cat(outputs, 1))
        logits = self.cls(self.res2(x) + x)
        return F.interpolate(logits, (65, 65), mode="bilinear", align_corners=True)


def randomise(net: nn.Module) -> nn.Module:
    """Batch norms with statistics of their own, so that one in another's place shows."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.8, 1.6),
                (module.weight.data, 0.5, 1.0),
                (module.bias.data, -0.2, 0.2),
            ):
                values.uniform_(low, high)
    return net.eval()


def episode(shots: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    masks = torch.zeros(1, shots, 65, 65, dtype=torch.uint8)
    masks[:, :, 10:40, 20:50] = 1
    masks[:, :, :5] = 255
    return torch.randn(1, 3, 65, 65, generator=g), torch.randn(1, shots, 3, 65, 65, generator=g), masks


def small_released(prior: bool = True) -> dict[str, torch.Tensor]:
    """A released state dict over ResNet-18, quick to make, by renaming our own network's."""
    torch.manual_seed(2)
    net = randomise(QGNet(create_encoder("resnet18"), create_encoder("resnet18"), WIDTH, LEVELS))
    renames = [
        ("prior_encoder.net.conv1.", "layer0_unsuper.0."),
        ("prior_encoder.net.bn1.", "layer0_unsuper.1."),
        ("prior_encoder.net.layer1.", "layer1_unsuper."),
        ("prior_encoder.net.layer2.", "layer2_unsuper."),
        ("prior_encoder.net.layer3.", "layer3_unsuper."),
        ("prior_encoder.net.layer4.", "layer4_unsuper."),
        ("encoder.net.conv1.", "layer0.0."),
        ("encoder.net.bn1.", "layer0.1."),
        ("encoder.net.layer", "layer"),
        ("reduce_query.", "down_query."),
        ("reduce_support.", "down_supp."),
        ("reduce_self.", "down_learn_super."),
        ("reduce_priors.", "down_learn_unsuper."),
        ("enrichment.mix.", "init_merge."),
        ("enrichment.from_finer.", "alpha_conv."),
        ("enrichment.refine.", "beta_conv."),
        ("enrichment.level_classifiers.", "inner_cls."),
        ("enrichment.merge.", "res1."),
        ("enrichment.refine_merged.", "res2."),
        ("enrichment.classifier.", "cls."),
    ]
    state = {}
    for key, value in net.state_dict().items():
        ours, theirs = next(rename for rename in renames if key.startswith(rename[0]))
        state[theirs + key[len(ours) :]] = value
    if not prior:
        state = {k: v for k, v in state.items() if "_unsuper" not in k and "down_learn" not in k}
        for level in range(len(LEVELS)):
            state[f"init_merge.{level}.0.weight"] = state[f"init_merge.{level}.0.weight"][:, :-1].clone()
    return state


def convert(source: Path | str, output: str = "ours.ckpt", levels: list[float] | None = None) -> None:
    qgnet(["import-weights", str(source), output, "--levels", *map(str, levels or LEVELS)])


def refused(capsys: pytest.CaptureFixture, source: Path | str, output: str = "ours.ckpt", **options: list) -> str:
    """The message of a refused import."""
    with pytest.raises(SystemExit) as stop:
        convert(source, output, **options)
    assert stop.value.code == 2
    assert not Path(output).with_suffix(".part").exists()
    return capsys.readouterr().err


@pytest.mark.parametrize("prior", [True, False], ids=["QGNet", "PFENet"])
def test_imported_network_predicts_as_the_released_one(
    workdir: Path, capsys: pytest.CaptureFixture, prior: bool
) -> None:
    torch.manual_seed(0)
    released = randomise(Released(prior))
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in released.state_dict().items()}}, "r.pth")
    convert("r.pth")
    assert ("r.pth is a QGNet" if prior else "r.pth is a PFENet") in capsys.readouterr().out
    net = FewShotSegmentation.load_from_checkpoint("ours.ckpt", map_location="cpu").net.eval()
    assert net.encoder.name == "resnet50s"
    assert (net.prior_encoder.name == "resnet50") if prior else (net.prior_encoder is None)
    with torch.no_grad():
        expected, found = released(*episode()), net(*episode()).logits
    assert expected.std() > 1e-3
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


SETTING = {True: "--model.prior_encoder resnet18", False: "--model.self_correspondence false"}


def small_settings(prior: bool = True) -> list[str]:
    return ["--model.encoder=resnet18", SETTING[prior].replace(" ", "="), "--model.levels=[9,0.5]"]


@pytest.mark.parametrize(
    ("prior", "files"),
    [(True, ["encoder_weights", "prior_weights"]), (False, ["encoder_weights"])],
    ids=["QGNet", "PFENet"],
)
def test_imported_checkpoint_is_tested(
    command: Command, capsys: pytest.CaptureFixture, prior: bool, files: list[str]
) -> None:
    torch.save(small_released(prior), "r.pth")  # neither `state_dict` nor `module.`
    convert("r.pth", "weights/ours.ckpt")
    printed = capsys.readouterr().out
    assert "--ckpt_path weights/ours.ckpt" in printed
    assert f"--model.encoder resnet18 {SETTING[prior]} --model.width 8" in printed
    assert "--model.levels '[9, 0.5]'" in printed
    command("test", "pascal5i.yaml", "--ckpt_path=weights/ours.ckpt", *small_settings(prior), "--run=runs/t")
    assert sorted(json.loads(Path("runs/t/results.json").read_text())["files_sha256"]) == files


def test_imported_checkpoint_is_trained_on(command: Command) -> None:
    state = small_released()
    torch.save(state, "r.pth")
    convert("r.pth")
    command("fit", "pascal5i.yaml", "--ckpt_path=ours.ckpt", *small_settings(), "--run=runs/x")
    trained = torch.load("runs/x/checkpoints/last.ckpt", weights_only=True)
    assert trained["global_step"] == 2
    assert torch.equal(trained["state_dict"]["net.prior_encoder.net.conv1.weight"], state["layer0_unsuper.0.weight"])
    assert not torch.equal(trained["state_dict"]["net.reduce_query.0.weight"], state["down_query.0.weight"])


def test_another_prior_extractor_beside_an_imported_checkpoint_is_refused(
    command: Command, capsys: pytest.CaptureFixture
) -> None:
    torch.save(small_released(), "r.pth")
    convert("r.pth")
    torch.save({"conv1.weight": torch.zeros(1)}, "other.ckpt")
    with pytest.raises(SystemExit):
        command(
            "test",
            "pascal5i.yaml",
            "--ckpt_path=ours.ckpt",
            *small_settings(),
            "--model.prior_weights=other.ckpt",
        )
    assert "the checkpoint holds its own copy" in capsys.readouterr().err


def test_deep_stem_imagenet_file_becomes_encoder_weights(workdir: Path, capsys: pytest.CaptureFixture) -> None:
    torch.manual_seed(0)
    stages = randomise(Backbone(deep=True)).stages
    names = {0: "conv1", 1: "bn1", 3: "conv2", 4: "bn2", 6: "conv3", 7: "bn3"}
    state = {f"{names[int(k[0])]}.{k[2:]}": v for k, v in stages[0].state_dict().items()}
    for stage in range(1, 5):
        state |= {f"layer{stage}.{k}": v for k, v in stages[stage].state_dict().items()}
    state |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    state = {k: v for k, v in state.items() if "num_batches_tracked" not in k}  # as files older than PyTorch 0.4.1
    torch.save(state, "resnet50_v2.pth")
    convert("resnet50_v2.pth", "e.pth")
    assert "--model.encoder resnet50s --model.encoder_weights e.pth" in capsys.readouterr().out
    encoder = create_encoder("resnet50s")
    load_encoder_weights(encoder, "e.pth", "model.encoder_weights")
    x = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        found = encoder.eval()(x, encoder.levels)
        for number, stage in enumerate(stages):
            x = stage.eval()(x)
            assert number == 0 or torch.allclose(
                found[f"stage{number}"], x, rtol=1e-4, atol=1e-4 * float(x.abs().max())
            )


@pytest.mark.parametrize(
    ("best", "others", "prefix"),
    [
        ("module.encoder_k.", ["module.encoder_q."], "encoder_k."),
        ("module.encoder_q.", [], "encoder_q."),
        ("encoder_k.0.", ["encoder_q.0.", "backbone."], "encoder_k.0."),
        ("backbone.", [], "backbone."),
    ],
    ids=["MoCo", "MoCo, query encoder only", "DenseCL", "DenseCL, backbone only"],
)
def test_self_supervised_checkpoint_becomes_a_prior_extractor(
    workdir: Path, capsys: pytest.CaptureFixture, best: str, others: list[str], prefix: str
) -> None:
    torch.manual_seed(0)
    state = {"queue": torch.zeros(128, 16), "queue_ptr": torch.zeros(1)}
    if ".0." in best:
        state[best.replace(".0.", ".1.") + "mlp.0.weight"] = torch.zeros(4, 4)
    for other in others:
        state |= {other + k: v for k, v in randomise(resnet18()).state_dict().items()}
    wanted = randomise(resnet18(num_classes=128)).state_dict()
    state |= {best + k: v for k, v in wanted.items()}
    torch.save({"epoch": 200, "arch": "resnet18", "state_dict": state, "optimizer": {"state": {}}}, "m.pth.tar")
    convert("m.pth.tar", "prior.ckpt")
    printed = capsys.readouterr().out
    assert f"has a resnet18 under {prefix}*; its other {2 + len(others) * 122 + ('.0.' in best)} tensors" in printed
    assert "--model.prior_encoder resnet18 --model.prior_weights prior.ckpt" in printed
    encoder = create_encoder("resnet18")
    load_encoder_weights(encoder, "prior.ckpt", "model.prior_weights")
    assert all(torch.equal(value, wanted[key]) for key, value in encoder.net.state_dict().items())


def test_weights_of_a_compiled_model_are_those_of_the_bare_one(workdir: Path) -> None:
    """As encoder weights, as a prior extractor and as a checkpoint; import-weights is tested beside."""
    encoder = create_encoder("test_resnet")
    wrapped = {f"_orig_mod.module.{k}": v for k, v in randomise(encoder.net).state_dict().items()}
    torch.save(wrapped, "e.pth")
    save_file(wrapped, "e.safetensors")
    save_prior_extractor(Path("p.ckpt"), encoder)
    prior = torch.load("p.ckpt", weights_only=True)
    torch.save(prior | {"state_dict": wrapped}, "p.ckpt")
    for file in ("e.pth", "e.safetensors", "p.ckpt"):
        loaded = create_encoder("test_resnet")
        load_encoder_weights(loaded, file, "model.encoder_weights")
        assert all(torch.equal(v, encoder.net.state_dict()[k]) for k, v in loaded.net.state_dict().items())


def test_a_checkpoint_of_a_compiled_network_is_tested_and_used(command: Command) -> None:
    command("fit", "demo/qgnet.yaml", "--run=runs/x")
    path = Path("runs/x/checkpoints/last.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    state = checkpoint["state_dict"]
    checkpoint["state_dict"] = {k.replace("net.", "net._orig_mod.", 1): v for k, v in state.items()}
    torch.save(checkpoint, "compiled.ckpt")
    command("test", "demo/qgnet.yaml", "--ckpt_path=compiled.ckpt", "--run=runs/t")
    net = checkpoint_model(Path("compiled.ckpt"), None).net.state_dict()
    assert all(torch.equal(v, net[k.removeprefix("net.")]) for k, v in state.items())


class Code:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("proof",)
