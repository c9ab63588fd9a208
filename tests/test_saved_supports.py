"""Segmenters kept in files: damaged ones, changed ones, and those of before checksums."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import qgnet
from qgnet.common.errors import InputError
from qgnet.inference.models import checkpoint_model
from qgnet.inference.saved_supports import CHECKSUM
from qgnet.tasks.segmentation import FewShotSegmentation

Content = dict[str, Any]
RANDOM = {"encoder": "test_resnet", "encoder_weights": "random"}
SMALL = {"encoder": "test_resnet", "prior_encoder": "test_resnet", "encoder_weights": "random", "width": 8}


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray]:
    """An image (70, 90, 3) of a red disc on green, and its mask."""
    y, x = np.mgrid[:70, :90]
    mask = (y - 35) ** 2 + (x - 40) ** 2 < 400
    return np.where(mask[..., None], (200, 30, 40), (30, 160, 60)).astype(np.uint8), mask


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, scene: tuple[np.ndarray, np.ndarray]) -> Path:
    """What was fitted by matching."""
    path = tmp_path_factory.mktemp("kept") / "fitted.pt"
    qgnet.Segmenter("matching", image_size=65, refine="none", **RANDOM).fit([scene]).save(path)
    return path


@pytest.fixture(scope="module")
def saved_qgnet(tmp_path_factory: pytest.TempPathFactory, scene: tuple[np.ndarray, np.ndarray]) -> Path:
    """What was fitted by a QGNet."""
    folder = tmp_path_factory.mktemp("kept")
    task = FewShotSegmentation(**SMALL, prior_weights="random", score_maps=["nearest"], levels=[1, 3])
    settings = {**SMALL, "prior_weights": "random", "score_maps": ["nearest"], "levels": [1, 3]}
    content = {"state_dict": task.state_dict(), "hyper_parameters": settings, "image_size": 65}
    torch.save({**content, "pytorch-lightning_version": "2.5.0"}, folder / "last.ckpt")
    assert checkpoint_model(folder / "last.ckpt", None).kind == "qgnet"
    qgnet.Segmenter(folder / "last.ckpt", refine="none").fit([scene]).save(folder / "fitted.pt")
    return folder / "fitted.pt"


def changed(path: Path, to: Path, change: Callable[[Content], object]) -> Path:
    """A copy changed by hand, without a checksum, as older files are."""
    content = torch.load(path, weights_only=True)
    del content[CHECKSUM]
    change(content)
    torch.save(content, to)
    return to


def test_any_flipped_byte_of_a_tensor_is_found(saved: Path, tmp_path: Path) -> None:
    content = torch.load(saved, weights_only=True)
    name, weights = next(iter(content["state_dict"].items()))
    data = bytearray(saved.read_bytes())
    for tensor in (weights, content["learnt"][0]["encoded"][0]["features"]):
        place = data.index(tensor.numpy().tobytes()[:64]) + 17
        damaged = bytearray(data)
        damaged[place] ^= 1
        (tmp_path / "damaged.pt").write_bytes(damaged)
        with pytest.raises(InputError, match=r"damaged\.pt (was changed or damaged|cannot be read)"):
            qgnet.Segmenter.load(tmp_path / "damaged.pt")
    content["state_dict"][name] = weights + 1e-3  # written by torch itself, whose own checksums then hold
    torch.save(content, tmp_path / "changed.pt")
    with pytest.raises(InputError, match=r"changed\.pt was changed or damaged .* Fit a Segmenter again"):
        qgnet.Segmenter.load(tmp_path / "changed.pt")


@pytest.mark.parametrize("single_scale", [False, True])
def test_files_of_before_are_read(
    single_scale: bool, saved: Path, saved_qgnet: Path, tmp_path: Path, scene: tuple[np.ndarray, np.ndarray]
) -> None:
    def as_before(content: Content) -> None:
        content["model"] |= {"net": None, "calibration": (1.0, 0.0, 0.0, 0.0, 0.5, (0.0,))}
        del content["learnt"][0]["usual"]
        if single_scale:  # before refinement and second scales
            content["format"] = "qgnet-segmenter-1"
            for name in ("refine", "image_size", "sides"):
                del content["options"][name]
            one = content["learnt"][0]
            (one["encoded"],), one["threshold"] = one["encoded"], one.pop("choice")["threshold"]

    for path in (saved, saved_qgnet):
        old = qgnet.Segmenter.load(changed(path, tmp_path / "old.pt", as_before))
        new = qgnet.Segmenter.load(path)
        assert old.calibration is None  # it was fitted at 321 px
        assert np.array_equal(old.predict(scene[0]).probability, new.predict(scene[0]).probability)


def learnt(**changes: Any) -> Callable[[Content], object]:
    return lambda content: content["learnt"][0].update(changes)


def weights(change: Callable[[Content], object]) -> Callable[[Content], object]:
    return lambda content: change(content["state_dict"])


def encoded(**changes: Any) -> Callable[[Content], object]:
    return lambda content: content["learnt"][0]["encoded"][0].update(changes)


def choice(**changes: Any) -> Callable[[Content], object]:
    return lambda content: content["learnt"][0]["choice"].update(changes)


BY_HAND: dict[str, tuple[Callable[[Content], object], str]] = {
    "another format": (lambda c: c.update(format="x"), "is no segmenter of this version"),
    "no model": (lambda c: c.pop("model"), "has no model"),
    "model a list": (lambda c: c.update(model=[1]), "model is [1]"),
    "unknown kind": (lambda c: c["model"].update(kind="unet"), "kind is 'unet'"),
    "the other kind": (lambda c: c["model"].update(kind="qgnet"), "does not make a network"),
    "size": (lambda c: c["model"].update(image_size=64), "image_size is 64"),
    "unknown setting": (lambda c: c["model"]["settings"].update(more=1), "does not make a network"),
    "unknown encoder": (lambda c: c["model"]["settings"].update(encoder="none"), "does not make a network"),
    "settings of a number": (lambda c: c["model"]["settings"].update({1: 2}), "settings is"),
    "no weights": (lambda c: c.update(state_dict={}), "does not make a network"),
    "a weight of another shape": (
        weights(lambda w: w.update({next(iter(w)): torch.zeros(2)})),
        "does not make a network",
    ),
    "a weight that is text": (weights(lambda w: w.update({next(iter(w)): "text"})), "does not make a network"),
    "normalisation of two": (lambda c: c.update(normalisation=[]), "normalisation is not"),
    "normalisation NaN": (
        lambda c: c.update(normalisation=[[[1, 1, float("nan")], [1, 1, 1]]]),
        "normalisation is not",
    ),
    "options missing": (lambda c: c["options"].pop("tile"), "the options has no tile"),
    "threshold NaN": (lambda c: c["options"].update(threshold=float("nan")), "threshold is nan"),
    "presence": (lambda c: c["options"].update(presence=7), "presence is 7"),
    "calibration": (lambda c: c["model"].update(calibration=(1, 2)), "the calibration has no"),
    "learnt a text": (lambda c: c.update(learnt=["cat"]), "class 1 is 'cat'"),
    "no name": (learnt(name=""), "name is ''"),
    "class threshold": (choice(threshold=2), "threshold is 2"),
    "another refinement": (choice(refinement="cut"), "refinement is 'cut'"),
    "weight of a scale": (choice(coarse_weight=-1), "coarse_weight is -1"),
    "sides": (lambda c: c["options"].update(sides=[]), "sides is []"),
    "a side that the network does not take": (lambda c: c["options"].update(sides=[64]), "a side is 64"),
    "another scale": (lambda c: c["learnt"][0]["encoded"].append({}), "encoded is not what"),
    "no supports": (learnt(supports=[]), "supports is []"),
    "a support of two": (learnt(supports=[(1, 2)]), "supports is [(1, 2)]"),
    "a support's IoU": (learnt(supports=[("object", 1, float("nan"), False)]), "iou is nan"),
    "encoded nothing": (learnt(encoded=None), "encoded is None"),
    "features missing": (learnt(encoded=[{}]), "encoded is not what"),
    "features of other channels": (encoded(features=torch.zeros(1, 3, 4)), "encoded is not what"),
    "features NaN": (lambda c: c["learnt"][0]["encoded"][0]["features"].fill_(float("nan")), "encoded is not what"),
    "foreground of other length": (encoded(foreground=torch.zeros(1, 3)), "encoded is not what"),
}


@pytest.mark.parametrize("change", BY_HAND)
def test_changed_by_hand(saved: Path, tmp_path: Path, change: str) -> None:
    do, message = BY_HAND[change]
    with pytest.raises(InputError) as error:
        qgnet.Segmenter.load(changed(saved, tmp_path / "changed.pt", do))
    assert message in str(error.value)
    assert "changed.pt" in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        encoded(category=torch.zeros(1, 9, 1, 1)),
        encoded(keys=[]),
        encoded(keys=[torch.zeros(1, 5, 2)]),
        encoded(positions=None),
        encoded(positions={"features": torch.zeros(1)}),
    ],
)
def test_a_qgnets_supports_changed_by_hand(saved_qgnet: Path, tmp_path: Path, change: Any) -> None:
    with pytest.raises(InputError, match="encoded is not what this network makes of supports"):
        qgnet.Segmenter.load(changed(saved_qgnet, tmp_path / "changed.pt", change))
