"""Masks that follow edges: refiners, and how the supports choose among them and among scales."""

import cv2
import numpy as np
import pytest
import torch
from skimage.data import astronaut, coffee

from datamodules.episodes.prepared import prepare_image, reduced_size
from qgnet.inference import REFINE
from qgnet.inference.refinement import REFINERS, colour_evidence, random_walk, spread
from qgnet.inference.refiners import Refiners
from qgnet.inference.tuning import Choice, Trial, choose, join_scales


def blob(size: tuple[int, int], centre: tuple[float, float], radius: float, fall: float = 15) -> np.ndarray:
    """Probabilities (H, W) that fall slowly from a centre, as a network's of 16 px a position do."""
    y, x = np.mgrid[: size[0], : size[1]]
    return (1 / (1 + np.exp((np.hypot(y - centre[0], x - centre[1]) - radius) / fall))).astype(np.float32)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


def square_scene(noise: float = 12.0) -> tuple[np.ndarray, np.ndarray]:
    """An image (120, 160, 3) of a square on a lawn, and its mask."""
    mask = np.zeros((120, 160), bool)
    mask[40:80, 50:100] = True
    colours = np.where(mask[..., None], (190, 60, 50), (60, 140, 70)).astype(np.float64)
    colours += np.random.default_rng(0).normal(0, noise, colours.shape)
    return colours.clip(0, 255).astype(np.uint8), mask


def test_a_blob_becomes_the_object() -> None:
    image, mask = square_scene()
    coarse = blob(mask.shape, (57, 78), 26)
    refined = random_walk(image, coarse, 0.4)
    assert overlap(coarse > 0.4, mask) < 0.8
    assert overlap(refined > 0.4, mask) > 0.97
    assert refined.dtype == np.float32
    assert refined.shape == mask.shape
    assert refined.min() >= 0
    assert refined.max() <= 1


def test_a_thin_part_is_kept_and_no_noise_nibbles_at_the_inside() -> None:
    image, mask = square_scene(noise=25)
    image[55:60, 100:130] = image[40:45, 60:90]  # an arm of 5 px
    mask[55:60, 100:130] = True
    refined = random_walk(image, blob(mask.shape, (57, 80), 30), 0.5) > 0.5
    assert refined[55:60, 102:128].mean() > 0.9
    assert refined[45:75, 55:95].all()


def test_the_threshold_is_where_the_edge_is() -> None:
    """Whatever the threshold that a class has, the refined map crosses it at the edge."""
    image, mask = square_scene()
    for threshold in (0.2, 0.5, 0.8):
        radius = 24 + 15 * np.log(threshold / (1 - threshold))
        refined = random_walk(image, blob(mask.shape, (58, 76), radius), threshold)
        assert overlap(refined > threshold, mask) > 0.95


def test_a_large_image_is_refined_by_its_small_copy() -> None:
    image, mask = square_scene()
    pair = (image, mask.astype(np.uint8))
    large, truth = (cv2.resize(x, (1600, 1200), interpolation=cv2.INTER_NEAREST) for x in pair)
    prepared = prepare_image(large, [321, 641])
    assert max(prepared.guide.shape) == 192
    refined = random_walk(prepared.guide, blob(truth.shape, (580, 770), 250, fall=150), 0.4)
    assert overlap(refined > 0.4, truth == 1) > 0.93


def test_colours_that_lead_elsewhere_are_not_followed() -> None:
    """The network found a small part of what has one colour: the rest of that colour is another thing."""
    image, mask = square_scene()
    coarse = blob(mask.shape, (60, 75), 3) * 0.9
    assert np.array_equal(random_walk(image, coarse, 0.4), coarse)


def plain(value: int, size: tuple[int, int]) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        plain(0, (40, 60)),
        plain(255, (40, 60)),
        np.repeat(np.arange(40, dtype=np.uint8)[:, None, None].repeat(60, 1), 3, 2),
        plain(9, (1, 50)),
        plain(9, (50, 1)),
        plain(9, (1, 1)),
        coffee()[:1, :200],
    ],
    ids=["black", "white", "grey ramp", "one row", "one column", "one pixel", "a row of a photograph"],
)
def test_images_without_colours_or_size(image: np.ndarray) -> None:
    size = image.shape[:2]
    for probability in (blob(size, (size[0] / 2, size[1] / 3), 8), np.zeros(size), np.ones(size), np.full(size, 0.5)):
        for refiner in REFINERS.values():
            refined = refiner(image, probability.astype(np.float32), 0.5)
            assert refined.shape == size
            assert np.isfinite(refined).all()
            assert refined.dtype == np.float32


def test_an_image_without_edges_changes_little() -> None:
    coarse = blob((60, 80), (30, 40), 15)
    assert overlap(random_walk(plain(90, (60, 80)), coarse, 0.5) > 0.5, coarse > 0.5) > 0.9


def test_walks_against_a_slow_reference() -> None:
    """The sparse system's solution, by a dense one that is written out pixel by pixel."""
    image = cv2.resize(astronaut(), (12, 10), interpolation=cv2.INTER_AREA)
    evidence = np.random.default_rng(0).normal(0, 1, (10, 12)).astype(np.float32)
    colours, pairs = image.reshape(-1, 3) / 255.0, []
    for y in range(10):
        for x in range(12):
            pairs += [(12 * y + x, 12 * y + x + 1)] if x < 11 else []
            pairs += [(12 * y + x, 12 * y + x + 12)] if y < 9 else []
    differences = np.array([((colours[i] - colours[j]) ** 2).sum() for i, j in pairs])
    system = 0.01 * np.eye(120)
    for (i, j), bond in zip(pairs, np.exp(-2 * differences / differences.mean()) + 1e-3, strict=True):
        for a, b in ((i, j), (j, i)):
            system[a, a] += bond
            system[a, b] -= bond
    expected = np.linalg.solve(system, 0.01 * evidence.ravel()).reshape(10, 12)
    assert np.abs(spread(image, evidence) - expected).max() < 0.02


def test_colours_are_told_apart() -> None:
    image, mask = square_scene()
    found = colour_evidence(image, mask.astype(np.float32), (~mask).astype(np.float32))
    assert ((found > 0) == mask).mean() > 0.99


def trial(image: np.ndarray, mask: np.ndarray, *maps: np.ndarray) -> Trial:
    logits = [torch.from_numpy(np.log(p / (1 - p))) for p in (m.clip(1e-4, 1 - 1e-4).astype(np.float32) for m in maps)]
    return Trial(logits, image, torch.from_numpy(mask.astype(np.uint8)))


def test_the_supports_choose_the_refinement_and_the_scale() -> None:
    image, mask = square_scene()
    coarse, fine = blob(mask.shape, (60, 20), 60), blob(mask.shape, (57, 78), 26)
    follows = [trial(image, mask, coarse, fine)] * 2
    choice, ious = choose(follows, [0.5, 0.0], Refiners("auto"), None, None)
    assert choice.refinement == "walk"
    assert min(ious) > 0.95
    assert choose(follows, [0.5, 0.0], Refiners("none"), None, None)[0].coarse_weight == 0
    other = mask & (np.arange(160) < 75)  # the object is half of what has its colour: edges lead astray
    astray = [trial(image, other, np.where(other, 0.9, 0.1).astype(np.float32))] * 2
    assert choose(astray, [1.0], Refiners("auto"), None, None)[0].refinement == "none"
    assert choose(astray, [1.0], Refiners("walk"), None, None)[0].refinement == "walk"


def test_a_fixed_threshold_stays() -> None:
    image, mask = square_scene()
    found, _ = choose([trial(image, mask, blob(mask.shape, (60, 75), 20))], [1.0], Refiners("auto"), 0.3, None)
    assert found == Choice(0.3, 1.0, "walk")


def test_scales_are_joined_by_weight() -> None:
    one, other = torch.zeros(3, 4), torch.ones(3, 4)
    assert torch.equal(join_scales([one], 1.0), one)
    assert torch.equal(join_scales([one, other], 0.25), torch.full((3, 4), 0.75))


def test_names() -> None:
    assert REFINE[0] == "auto"
    assert set(REFINE[1:]) == {*REFINERS, "sam2"}
    assert list(Refiners("auto")) == ["walk", "none"]


def test_reduced_sizes() -> None:
    assert reduced_size((300, 400), 192) == (144, 192)
    assert reduced_size((30, 40), 192) == (30, 40)
    assert reduced_size((1, 4000), 192) == (1, 192)
