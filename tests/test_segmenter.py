"""Segmenter: a few masks in, all others out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import EPISODIC
from PIL import Image
from skimage.data import coins

import qgnet
from datamodules.errors import InputError
from qgnet.cli import main

RANDOM = {"encoder": "test_resnet", "encoder_weights": "random"}


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray]:
    """A picture (70, 90, 3) of a red disc on green, and its mask."""
    y, x = np.mgrid[:70, :90]
    mask = (y - 35) ** 2 + (x - 40) ** 2 < 400
    image = np.where(mask[..., None], (200, 30, 40), (30, 160, 60)).astype(np.uint8)
    return image, mask


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    main(["fit", *EPISODIC, f"--run={run}"])
    return run / "checkpoints/last.ckpt"


def test_one_support_gives_all_fields(scene: tuple[np.ndarray, np.ndarray], checkpoint: Path) -> None:
    image, mask = scene
    for segmenter in (qgnet.Segmenter("matching", image_size=65, **RANDOM), qgnet.Segmenter(checkpoint)):
        result = segmenter.fit([(image, mask)]).predict(image)
        assert result.mask.shape == result.probability.shape == mask.shape
        assert set(np.unique(result.mask)) <= {0, 1}
        assert result.mask.dtype == np.uint8
        assert result.probability.dtype == np.float32
        assert 0 <= result.score <= 1
        assert result.guided_map.min() >= 0
        assert result.guided_map.max() <= 1
    assert segmenter.model.image_size == 65  # the checkpoint says so
    assert result.prior_map is not None


def test_files_pil_images_and_arrays_are_the_same(scene: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    image, mask = scene
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "m.png")
    torch.manual_seed(0)
    segmenter = qgnet.Segmenter("matching", image_size=65, **RANDOM)
    expected = segmenter.fit([(image, mask)]).predict(image).probability
    files = segmenter.fit([(tmp_path / "a.png", str(tmp_path / "m.png"))]).predict(tmp_path / "a.png")
    pil = segmenter.fit([(Image.fromarray(image), Image.fromarray(mask))]).predict(Image.fromarray(image))
    assert np.array_equal(files.probability, expected)
    assert np.array_equal(pil.probability, expected)


def test_one_coin_finds_the_others() -> None:
    """With the weights that come as a package; small objects want a large square."""
    image = coins()
    mask = np.full(image.shape, 255, np.uint8)  # nothing is said of the other coins
    mask[10:85, 10:80] = 0
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    mask[(y - 51) ** 2 + (x - 44) ** 2 < 22**2] = 1
    found = qgnet.Segmenter(image_size=641).fit([(image, mask)]).predict(image).mask
    centres = [(55, 98), (50, 155), (50, 215), (45, 335), (125, 45), (120, 270), (195, 210), (260, 47), (260, 170)]
    assert np.mean([found[y - 5 : y + 6, x - 5 : x + 6].mean() for y, x in centres]) > 0.8
    between = [(85, 60), (85, 240), (155, 240), (225, 200), (225, 100)]
    assert np.mean([found[y - 5 : y + 6, x - 5 : x + 6].mean() for y, x in between]) < 0.2


def test_what_cannot_be_learnt_from(scene: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    image, mask = scene
    segmenter = qgnet.Segmenter("matching", image_size=65, **RANDOM)
    with pytest.raises(InputError, match="Nothing has been learnt"):
        segmenter.predict(image)
    for supports, message in (
        ([], "no support"),
        ([(image, mask & False)], "is empty"),
        ([(image, mask | True)], "marks everything"),
        ([(image, mask[1:])], "90x69 px, the picture 90x70 px"),
        ([(tmp_path / "none.jpg", mask)], "does not exist"),
        ({"a": [(image, mask)], "b": []}, "no support of 'b'"),
    ):
        with pytest.raises(InputError, match=message):
            segmenter.fit(supports)
    with pytest.raises(InputError, match="Two classes"):
        segmenter.fit([(image, mask)], names={1: "a", 2: "a"})
