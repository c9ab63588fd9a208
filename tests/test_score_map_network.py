"""The head of score maps: what it compares, against loops; what it is given; its use by every command."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command, train_losses

from datamodules import EpisodeDataset, Synthetic
from qgnet import Segmenter
from qgnet.losses import dice_loss
from qgnet.networks.comparison import KINDS, NEIGHBOURS, compare, similarity
from qgnet.networks.encoders import create_encoder
from qgnet.networks.score_map_network import Correction, ScoreMapNetwork
from qgnet.networks.score_maps import COSINE_SCALE, SupportPositions, nearest_score_map
from qgnet.tasks.kept_features import KeptFeatures

SIDE = 65


def unit(*shape: int, seed: int) -> torch.Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return x / x.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("shown", [2, 9])
def test_maps_are_those_of_plain_loops(shown: int) -> None:
    query, keys = unit(1, 6, 3, 4, seed=0), unit(1, 6, 30, seed=1)
    foreground = torch.zeros(1, 30)
    foreground[0, :shown] = 1
    background = torch.zeros(1, 30)
    background[0, shown:25] = 1  # the last five are ignored
    supports = SupportPositions(keys, foreground, background)
    found = compare(query, supports, similarity(query, keys))[0]
    assert found.shape == (len(KINDS), 3, 4)
    parts = [keys[0, :, cover[0] > 0].T.numpy() for cover in (foreground, background)]
    for y, x in ((0, 0), (2, 3)):
        best = [sorted((part @ query[0, :, y, x].numpy()).tolist(), reverse=True)[:NEIGHBOURS] for part in parts]
        first = [values[0] for values in best]
        several = [np.mean(values + values[:1] * (NEIGHBOURS - len(values))) for values in best]
        expected = [first[0], COSINE_SCALE * (first[0] - first[1]), COSINE_SCALE * (several[0] - several[1])]
        assert np.allclose(found[:3, y, x].numpy(), expected, atol=1e-5)
    assert torch.allclose(found[1], nearest_score_map(query, supports)[0, 0], atol=1e-5)
    means = [part.mean(axis=0) / np.linalg.norm(part.mean(axis=0)) for part in parts]
    expected = COSINE_SCALE * np.einsum("c,chw->hw", means[0] - means[1], query[0].numpy())
    assert np.allclose(found[3].numpy(), expected, atol=1e-5)


def network() -> ScoreMapNetwork:
    torch.manual_seed(0)
    return ScoreMapNetwork(create_encoder("test_resnet", 4, dilated=False), width=8, fine_width=8).eval()


def episode() -> tuple[torch.Tensor, torch.Tensor]:
    """An image, and a mask of its upper left part."""
    mask = torch.zeros(1, SIDE, SIDE, dtype=torch.uint8)
    mask[:, :30, :30] = 1
    return torch.randn(1, 3, SIDE, SIDE), mask


@torch.inference_mode()
def test_what_is_compared_together_is_the_two_matching_levels() -> None:
    net, (images, mask) = network(), episode()
    query, supports = net.encode_query(images), net.encode_support(images, mask)
    together, positions = net.presence_features(query, supports)
    assert torch.allclose(together.norm(dim=1), torch.ones(()), atol=1e-5)
    maps, scored = net.score_maps(query, supports, together, positions)
    direct = compare(together, positions, similarity(together, positions.features))
    assert torch.allclose(maps[:, -5:-1], direct, atol=1e-5)
    assert maps.shape[1] == 4 * 4 + 1
    assert list(scored) == ["ridge", "prototype", "nearest"]


@torch.inference_mode()
def test_the_prediction_depends_on_the_query_by_its_score_maps_and_finest_levels_alone() -> None:
    net, (images, mask) = network(), episode()
    query, supports = net.encode_query(images), net.encode_support(images, mask)
    assert [tuple(edge.shape[-2:]) for edge in query.edges] == [(9, 9), (17, 17)]
    turned = torch.linalg.qr(torch.randn(net.channels[0], net.channels[0]))[0]  # keeps all cosines of the first level
    for features in (query.compared, supports.features):
        first = features[:, : net.channels[0]]
        first.copy_(torch.einsum("ij,bj...->bi...", turned, first))
    other = net.decode(query, supports, (SIDE, SIDE)).logits
    expected = net(images, images[:, None], mask[:, None]).logits
    assert torch.allclose(other, expected, atol=1e-3)


def test_dice_loss_is_that_of_a_loop() -> None:
    logits = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.randint(0, 2, (3, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    mask[:, 0], mask[2] = 255, 0
    losses = []
    for i in range(2):  # the third shows nothing
        inside = mask[i] != 255
        p, t = logits[i].softmax(0)[1][inside], (mask[i] == 1)[inside].float()
        losses.append(float(1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)))
    assert float(dice_loss(logits, mask)) == pytest.approx(np.mean(losses), abs=1e-6)
    assert float(dice_loss(logits[2:], mask[2:])) == 0


def test_a_width_that_cannot_be_normalised_is_refused() -> None:
    with pytest.raises(ValueError, match=r"width is 12; expected a multiple of 8\."):
        ScoreMapNetwork(create_encoder("test_resnet"), width=12)


def test_a_trained_head_segments_and_is_exported(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    command("fit", "heads/score_maps.yaml", "--run=runs/x", "--trainer.log_every_n_steps=1")
    losses = Path("runs/x/metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss", "train/main_loss", "train/dice_loss"} <= set(losses)
    checkpoint = "runs/x/checkpoints/last.ckpt"
    image = np.random.default_rng(0).integers(0, 256, (50, 65, 3), dtype=np.uint8)
    mask = np.zeros((50, 65), np.uint8)
    mask[10:30, 10:40] = 1
    segmenter = Segmenter(checkpoint).fit([(image, mask)])
    result = segmenter.predict(image)
    assert result.mask.shape == (50, 65)
    segmenter.save("saved.pt")
    again = Segmenter.load("saved.pt").predict(image)
    assert np.array_equal(again.best.probability, result.best.probability)


def test_kept_features_change_no_loss(command: Command) -> None:
    settings = ["--data.versions=2", "--data.shots=2", "--model.training_shots=[1,2]", "--trainer.max_epochs=3"]
    settings += ["--trainer.max_steps=-1", "--trainer.log_every_n_steps=1"]
    for run, room in (("kept", 1.0), ("little", 1e-5)):
        command("fit", "heads/score_maps.yaml", f"--run=runs/{run}", f"--model.keep_gb={room}", *settings)
    assert train_losses("runs/kept") == train_losses("runs/little")
    assert len(train_losses("runs/kept")) == 6
    assert not list(Path("runs/kept").rglob("*.float16"))


def test_features_are_kept_up_to_their_size(tmp_path: Path) -> None:
    image = torch.randn(2, 3, 4, 4)
    kept, asked = KeptFeatures(tmp_path / "features", 3 * 3 * 16 * 2), []

    def encode(i: int) -> dict[str, torch.Tensor]:
        asked.append(i)
        return {"level": image[i : i + 1]}

    for _ in range(2):
        features = kept.get(["a", "b"], encode)["level"]
        assert torch.equal(features, image.half().float())
    assert asked == [0, 1]
    kept.get(["c"], encode)
    for _ in range(2):
        kept.get(["d"], encode)
    assert asked == [0, 1, 0, 0, 0]


def test_fixed_augmentations_return(tmp_path: Path) -> None:
    settings = {"split": "train", "image_size": 65, "min_class_area": 50, "shots": 2, "negative": 0.3, "inverted": 0.2}
    dataset = EpisodeDataset(Synthetic(scenes=60), versions=2, **settings)
    seen: dict[tuple[str, int], torch.Tensor] = {}
    returned = 0
    for i in range(80):
        episode = dataset[i]
        images = [episode.query_image, *episode.support_images]
        for name, version, image in zip(
            [*episode.query_name, *episode.support_names[0]], episode.versions.tolist(), images, strict=True
        ):
            assert version >= 0
            returned += (name, version) in seen
            assert torch.equal(seen.setdefault((name, version), image), image)
    assert returned > 20
    assert EpisodeDataset(Synthetic(scenes=60), **settings)[0].versions.tolist() == [-1, -1, -1]


def test_more_shots_than_the_episodes_have_are_refused(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("fit", "heads/score_maps.yaml", "--model.training_shots=[1,5]")
    assert "Set --data.shots 5." in capsys.readouterr().err


def test_how_high_the_score_maps_are_counts() -> None:
    """Normalisation removes it from the maps; without it nothing tells a class that is absent."""
    torch.manual_seed(0)
    correction = Correction(5, [6], width=8, dilations=[1]).eval()
    maps, scored, edges = torch.randn(1, 5, 33, 33), torch.randn(1, 3, 33, 33), [torch.randn(1, 6, 65, 65)]

    def change() -> float:
        low, high = (correction(maps + height, scored, edges)[..., 20:45, 20:45] for height in (0.0, 3.0))
        return float((high - low).detach().abs().mean())

    with_heights = change()
    torch.nn.init.zeros_(correction.level.weight)
    assert change() < 0.2 * with_heights
