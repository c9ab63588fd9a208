"""A score counts as calibrated only where it was measured; elsewhere nothing is left empty by it, and that is said."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.data import chelsea, coins

import qgnet
from qgnet.common.errors import InputError
from qgnet.inference import models
from qgnet.inference.segmenter import BATCH
from qgnet.inference.tiling import batch_limit

RANDOM = {"encoder": "test_resnet", "encoder_weights": "random"}


@pytest.mark.parametrize("settings", [{}, {"bf16": True}, {"image_size": 321}, {"threshold": 0.5, "presence": 0.3}])
def test_settings_that_were_measured(settings: dict[str, Any], capsys: pytest.CaptureFixture) -> None:
    assert qgnet.Segmenter(**settings).calibration is not None
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"tile": True}, "calibrated for whole images, not for tiles"),
        ({"image_size": 65}, "px, not at 65 px"),
        ({"image_size": 641, "presence": 0.8}, "px, not at 641 px"),
        ({"presence": 0.7, **RANDOM}, "not calibrated for this model"),
    ],
)
def test_settings_that_were_not_measured(settings: dict[str, Any], why: str, capsys: pytest.CaptureFixture) -> None:
    assert qgnet.Segmenter(**settings).calibration is None
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert said[0].startswith("Nothing is left empty by its score: ")
    assert why in said[0]


@pytest.mark.parametrize("settings", [{"presence": 0, "image_size": 65}, RANDOM, {"presence": 0, **RANDOM}])
def test_nothing_is_said_where_nobody_asked(settings: dict[str, Any], capsys: pytest.CaptureFixture) -> None:
    assert qgnet.Segmenter(**settings).calibration is None
    assert not capsys.readouterr().out


@pytest.mark.parametrize("settings", [{"image_size": 97, "tile": True}, {"image_size": 129}])
def test_where_it_was_not_measured_a_score_is_the_mean_probability(settings: dict[str, Any], tmp_path: Path) -> None:
    cat = chelsea()
    mask = np.zeros(cat.shape[:2], bool)
    mask[40:280, 90:330] = True
    segmenter = qgnet.Segmenter(**settings, presence=1.0).fit([(cat, mask)])
    segmenter.save(tmp_path / "cat.pt")
    for one in (segmenter, qgnet.Segmenter.load(tmp_path / "cat.pt")):
        for image in (cat[:, ::-1], coins()):
            found = one.predict(image).best
            assert not found.empty
            assert found.score == pytest.approx(float(found.probability[found.mask == 1].mean()), abs=1e-5)


def test_a_single_pixel_promises_nothing() -> None:
    """Its mirrored copy, smaller, had no pixel of it left: nothing was to be found, and nothing was."""
    cat = chelsea()
    mask = np.zeros(cat.shape[:2], bool)
    mask[120, 200] = True
    learnt = qgnet.Segmenter(image_size=161, presence=0).fit([(cat, mask)]).fitted[0]
    assert learnt.expected_iou < 0.5


@pytest.mark.parametrize("size", [0, 64, -7, 8000001, True, 65.5, "65", float("nan")])
def test_image_sizes_that_are_none(size: Any) -> None:
    with pytest.raises(
        InputError, match=r"The image size is .* (expected a whole number of pixels, 1 … 4097|Take 57 or 65)"
    ):
        qgnet.Segmenter(image_size=size, **RANDOM)


@pytest.mark.parametrize("device", ["abacus", "cuda:99", 1.5])
def test_devices_that_are_none(device: Any) -> None:
    with pytest.raises(InputError, match="cannot be used"):
        qgnet.Segmenter(image_size=65, device=device, **RANDOM)


def test_a_single_image_is_not_several() -> None:
    segmenter = qgnet.Segmenter(image_size=65, **RANDOM)
    for given in ("photo.jpg", Path("photo.jpg"), chelsea(), torch.zeros(3, 9, 9), None, 7):
        with pytest.raises(InputError, match="expected several of them"):
            next(segmenter.predict_many(given))


def test_of_large_squares_fewer_go_through_the_network_at_once() -> None:
    assert [batch_limit(side, BATCH) for side in (65, 961, 1417, 4097)] == [8, 8, 4, 1]


def test_the_calibration_is_of_the_shipped_settings() -> None:
    assert models.MATCHING_SIDE in models.matching_calibration().sides
