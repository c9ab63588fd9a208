"""Encoders: strides, released dilations, timm's weights, freezing."""

from pathlib import Path

import pytest
import timm
import torch
from test_networks import episode, tiny_qgnet

from qgnet.networks.encoders import Encoder, create_encoder
from qgnet.weights.store import load_encoder_weights

KINDS = [
    "resnet18",
    "resnet50",
    "resnet50s",
    "resnet50d",
    "test_resnet",
    "convnext_atto",
    "test_convnext",
    "regnetx_002",
    "regnety_002",
    "test_efficientnet",
    "tf_efficientnet_b0",
    "mobilenetv2_050",
    "mobilenetv3_small_050",
    "densenet121",
    "resnetv2_50",
    "darknet53",
]


def convolutions(encoder: Encoder, stage: str, feature: torch.Tensor) -> list[torch.nn.Conv2d]:
    """Those that a stage runs through."""
    found: list[torch.nn.Conv2d] = []
    for module in encoder.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_pre_hook(lambda module, _: found.append(module))
    with torch.no_grad():
        encoder.run_stage(stage, feature)
    return found


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("high_stage", [3, 4])
def test_encoder_keeps_stride_8_with_the_released_dilations(name: str, high_stage: int) -> None:
    encoder = create_encoder(name, high_stage).eval()
    with torch.no_grad():
        features = encoder(torch.randn(1, 3, 57, 65), encoder.levels)
    assert list(features) == list(encoder.levels) == [f"stage{n}" for n in range(1, high_stage + 1)]
    for stage, feature in features.items():
        assert feature.shape == (1, encoder.levels[stage].channels, *((15, 17) if stage == "stage1" else (8, 9)))
        assert feature.shape[2:] == encoder.grid(stage, (57, 65))
    for stage, before, dilation in (("stage3", "stage2", 2), ("stage4", "stage3", 4)):
        if stage in features:
            convs = convolutions(encoder, stage, features[before])
            assert {c.dilation[0] for c in convs if c.kernel_size[0] > 1} == {dilation}
            assert {c.stride for c in convs} == {(1, 1)}


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "regnetx_002", "densenet121", "darknet53"])
def test_undilated_encoder_gives_timms_features(name: str) -> None:
    encoder = create_encoder(name, dilated=False).eval()
    net = timm.create_model(name, features_only=True).eval()
    net.load_state_dict(encoder.net.state_dict())
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = dict(zip(net.feature_info.reduction(), net(images), strict=True))
        features = encoder(images, encoder.levels)
    assert [level.stride for level in encoder.levels.values()] == [4, 8, 16, 32]
    for stage, level in encoder.levels.items():
        assert torch.equal(features[stage], expected[level.stride])


def test_vgg_is_as_the_released_one() -> None:
    """Pools end the stages and round up; no dilation, so stages 3 and 4 have stride 16; no pool after the last."""
    images = torch.randn(1, 3, 57, 65)
    for high_stage in (3, 4):
        encoder = create_encoder("vgg16_bn", high_stage).eval()
        with torch.no_grad():
            features = encoder(images, encoder.levels)
        shapes = [tuple(x.shape[1:]) for x in features.values()]
        assert shapes == [(128, 15, 17), (256, 8, 9), (512, 4, 5), (512, 4, 5)][:high_stage]
        assert encoder.mid_channels == 512 + 256
        assert len(encoder.net) == {3: 34, 4: 43}[high_stage]
        assert {m.dilation for m in encoder.modules() if isinstance(m, torch.nn.Conv2d)} == {(1, 1)}


REFUSED = "vit_tiny_patch16_224 mixer_s32_224 xception41 hrnet_w18_small inception_v3 swin_tiny_patch4_window7_224"


@pytest.mark.parametrize("name", [*REFUSED.split(), "test_mambaout", "poolformer_s12", "resnetblur18"])
def test_what_is_no_chain_of_convolutional_stages_is_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^(Stage \d of )?{name} [^;]*; take a convolutional network in stages, e.g."
    ):
        create_encoder(name)


@pytest.mark.parametrize(
    ("name", "high_stage"),
    [("vgg11_bn", 3), ("resnet50s", 4), ("test_convnext", 4), ("test_efficientnet", 3), ("mobilenetv3_small_050", 4)],
)
def test_timms_own_weights_fit(name: str, high_stage: int, tmp_path: Path) -> None:
    weights = timm.create_model(name).state_dict()
    torch.save(weights, tmp_path / "weights.pth")
    encoder = create_encoder(name, high_stage)
    load_encoder_weights(encoder, str(tmp_path / "weights.pth"), "model.encoder_weights")
    first = next(iter(weights))
    assert torch.equal(next(iter(encoder.net.state_dict().values())), weights[first])


def test_dilation_does_not_change_the_parameters() -> None:
    dilated, plain = (create_encoder("test_resnet", 4, dilated=d).state_dict() for d in (True, False))
    assert {k: v.shape for k, v in dilated.items()} == {k: v.shape for k, v in plain.items()}


def test_unknown_encoder_and_stage_are_refused() -> None:
    with pytest.raises(ValueError, match="no model 'resnet51'"):
        create_encoder("resnet51")
    with pytest.raises(ValueError, match="stage 3 or 4"):
        create_encoder("resnet18", high_stage=2)


def test_frozen_encoder_survives_train_and_its_statistics_do_not_move() -> None:
    net = tiny_qgnet()
    net.prior_encoder.freeze()
    net.encoder.freeze()
    net.train()
    before = {k: v.clone() for k, v in net.state_dict().items() if "encoder." in k}
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        net(*episode()).logits.mean().backward()
        optimizer.step()
    after = net.state_dict()
    assert before
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert all(p.grad is None for p in net.encoder.parameters())
    assert any(p.grad is not None for p in net.enrichment.parameters())


def test_unfrozen_encoder_does_move() -> None:
    net = tiny_qgnet().train()
    before = net.encoder.state_dict()["net.bn1.running_mean"].clone()
    net(*episode()).logits.mean().backward()
    assert not torch.equal(before, net.encoder.state_dict()["net.bn1.running_mean"])
    assert all(p.grad is not None for p in net.encoder.parameters())
