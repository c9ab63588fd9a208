"""Support matching without training, against loops, and as a command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import CONFIGS, TINY_SEGMENTATION, TINY_TRAINER
from torch import Tensor

from qgnet.cli import main
from qgnet.networks.encoders import create_encoder
from qgnet.networks.layers import resize_mask
from qgnet.networks.matching import MatchingNetwork
from qgnet.networks.qgnet import QGNet
from qgnet.networks.score_maps import (
    COSINE_SCALE,
    RIDGE,
    SCORE_MAPS,
    SupportPositions,
    compute_score_maps,
    join_shots,
    support_positions,
)

SIDE = 5
SIZE = 40


def unit(*shape: int, seed: int) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return x / x.norm(dim=1, keepdim=True)


def masks(*shape: int, seed: int = 0) -> Tensor:
    """Blocks of 8 px of background, foreground and ignored: every position is of one kind."""
    kinds = torch.randint(0, 3, (*shape, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))
    kinds[..., 0, 0], kinds[..., 0, 1] = 0, 1
    values = torch.tensor([0, 1, 255], dtype=torch.uint8)[kinds]
    return values.repeat_interleave(8, dim=-1).repeat_interleave(8, dim=-2)


def episode(shots: int) -> tuple[Tensor, SupportPositions, Tensor, Tensor]:
    """Query features, its supports' positions, and for plain loops their features (2, K, C, h, w) and masks."""
    query, support, mask = unit(2, 6, SIDE, SIDE, seed=1), unit(2 * shots, 6, SIDE, SIDE, seed=2), masks(2 * shots)
    per_shot = [support_positions(support[k::shots], mask[k::shots]) for k in range(shots)]
    return query, join_shots(per_shot), *(x.unflatten(0, (2, shots)) for x in (support, mask))


def slow(name: str, query: np.ndarray, keys: np.ndarray, labels: np.ndarray) -> float:
    """The score map of one query position (C,) against keys (N, C) that are 1 foreground, 0 background, 255 neither."""
    fore, back = keys[labels == 1], keys[labels == 0]
    if name == "nearest":
        return COSINE_SCALE * (max(query @ k for k in fore) - max(query @ k for k in back))
    if name == "prototype":
        means = [x.mean(axis=0) / np.linalg.norm(x.mean(axis=0)) for x in (fore, back)]
        return COSINE_SCALE * (query @ means[0] - query @ means[1])
    if name == "ridge":
        centre = (fore.mean(axis=0) + back.mean(axis=0)) / 2
        rows = [(k, 1.0, 0.5 / len(fore)) for k in fore] + [(k, -1.0, 0.5 / len(back)) for k in back]
        covariance = sum(w * np.outer(k - centre, k - centre) for k, _, w in rows)
        right = sum(w * y * (k - centre) for k, y, w in rows)
        strength = RIDGE * np.trace(covariance) / len(query) * np.eye(len(query))
        return float((query - centre) @ np.linalg.solve(covariance + strength, right))
    return slow("ridge", query, keys, labels) + slow("nearest", query, keys, labels)


@pytest.mark.parametrize("shots", [1, 3])
@pytest.mark.parametrize("name", SCORE_MAPS)
def test_score_maps_are_those_of_plain_loops(name: str, shots: int) -> None:
    query, support, features, mask = episode(shots)
    found = compute_score_maps(query, support, [name])[name]
    assert found.shape == (2, 1, SIDE, SIDE)
    for b in range(2):
        labels = mask[b, :, ::8, ::8].flatten().numpy()
        keys = features[b].movedim(1, -1).flatten(0, 2).double().numpy()
        for y, x in ((0, 0), (2, 3), (4, 4)):
            expected = slow(name, query[b, :, y, x].double().numpy(), keys, labels)
            assert float(found[b, 0, y, x]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", SCORE_MAPS)
def test_foreground_and_background_exchanged_turn_the_sign(name: str) -> None:
    query, support, *_ = episode(shots=2)
    turned = SupportPositions(support.features, support.background, support.foreground)
    assert torch.allclose(
        compute_score_maps(query, support, [name])[name], -compute_score_maps(query, turned, [name])[name], atol=1e-4
    )


@pytest.mark.parametrize("name", SCORE_MAPS)
def test_a_support_given_twice_and_the_order_of_shots_change_nothing(name: str) -> None:
    query, support, *_ = episode(shots=2)
    n = support.features.shape[2]
    for order in ([*range(n)] * 2, [*range(n // 2, n), *range(n // 2)]):
        other = SupportPositions(
            support.features[:, :, order], support.foreground[:, order], support.background[:, order]
        )
        assert torch.allclose(
            compute_score_maps(query, support, [name])[name], compute_score_maps(query, other, [name])[name], atol=1e-4
        )


@pytest.mark.parametrize("name", SCORE_MAPS)
@pytest.mark.parametrize("label", [0, 1, 255])
def test_masks_of_one_kind_give_finite_score_maps(name: str, label: int) -> None:
    support = support_positions(unit(1, 6, SIDE, SIDE, seed=2), torch.full((1, SIZE, SIZE), label, dtype=torch.uint8))
    assert compute_score_maps(unit(1, 6, SIDE, SIDE, seed=1), support, [name])[name].isfinite().all()


def test_an_object_smaller_than_a_position_is_kept() -> None:
    mask = torch.zeros(2, 1, 65, 65)
    mask[0, 0, 3, 3] = 1  # between the points that bilinear resizing looks at
    mask[1, 0, 10:50, 10:50] = 1
    resized = resize_mask(mask, (9, 9))
    assert resized[0].sum() == 1
    assert resized[1].sum() < 40
    found = support_positions(unit(1, 6, 9, 9, seed=1), mask[0].to(torch.uint8))
    assert (found.foreground > 0).sum() == 1
    assert compute_score_maps(unit(1, 6, 9, 9, seed=1), found, ["nearest"])["nearest"].max() > 0


@pytest.mark.parametrize("name", SCORE_MAPS)
def test_what_is_ignored_altogether_is_not_kept_and_changes_nothing(name: str) -> None:
    features, mask = unit(2, 6, SIDE, SIDE, seed=2), masks(2)
    mask[:, :, 24:] = 255
    mask[1, 16:] = 255
    found = support_positions(features, mask)
    assert found.features.shape[2] == int((mask[0, ::8, ::8] != 255).sum()) < SIDE * SIDE
    for i in range(2):
        kept = mask[i, ::8, ::8].flatten() != 255
        labels = mask[i, ::8, ::8].flatten()[kept]
        expected = SupportPositions(
            features[i : i + 1].flatten(2)[:, :, kept], *((labels == v).float()[None] for v in (1, 0))
        )
        query, own = unit(1, 6, SIDE, SIDE, seed=1), SupportPositions(*(x[i : i + 1] for x in found))
        assert torch.allclose(
            compute_score_maps(query, own, [name])[name], compute_score_maps(query, expected, [name])[name], atol=1e-5
        )


def test_the_networks_parts_with_score_maps_are_the_whole() -> None:
    torch.manual_seed(0)
    net = QGNet(
        create_encoder("test_resnet", 4), None, 8, [1], score_maps=["ridge", "nearest"], add_to_score_maps=True
    ).eval()
    g = torch.Generator().manual_seed(1)
    images = torch.randn(2, 4, 3, 65, 65, generator=g)
    mask = torch.randint(0, 2, (2, 3, 65, 65), generator=g).to(torch.uint8)
    with torch.no_grad():
        whole = net(images[:, 0], images[:, 1:], mask)
        assert list(whole.score_maps) == ["ridge", "nearest"]
        net.score_map_weights.fill_(0)
        assert not torch.allclose(net(images[:, 0], images[:, 1:], mask).logits, whole.logits)
    with pytest.raises(ValueError, match="score_maps names 'none'"):
        QGNet(create_encoder("test_resnet", 4), None, 8, [1], score_maps=["none"])
    with pytest.raises(ValueError, match="add_to_score_maps needs score_maps"):
        QGNet(create_encoder("test_resnet", 4), None, 8, [1], add_to_score_maps=True)


def test_unknown_method() -> None:
    with pytest.raises(ValueError, match="expected one of nearest"):
        MatchingNetwork(create_encoder("test_resnet", 4), "best")


def run_matching(subcommand: str, voc: Path, *extra: str) -> None:
    settings = yaml.safe_load((CONFIGS / "matching.yaml").read_text())["model"]["init_args"]
    known = [a for a in TINY_SEGMENTATION if not a.startswith("--model") or a.split("=")[0][8:] in settings]
    config = "--config=lightning_configs/matching.yaml"
    main([subcommand, config, *TINY_TRAINER, *known, f"--data.root={voc}", "--model.high_stage=3", *extra])


def test_the_command_scores_every_method_and_its_own(workdir: Path, voc: Path) -> None:
    run_matching("test", voc, "--run=runs/t", "--data.negative=1")
    result = json.loads(Path("runs/t/results.json").read_text())
    assert result["method"] == "matching by sum"
    assert {f"matching by {name}" for name in SCORE_MAPS} < set(result["scores"])
    assert 0 <= result["control"]["support_overlap"] <= 1
    assert Path("runs/t/two_supports.png").exists()


def test_there_is_nothing_to_train(workdir: Path, voc: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        run_matching("fit", voc)
    assert stop.value.code == 2
    assert "nothing to train" in capsys.readouterr().err
