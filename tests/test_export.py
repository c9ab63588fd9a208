"""``qgnet export``: the same answers from ONNX files, and nothing left of an export that is not right."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import EPISODIC

import qgnet
from qgnet.cli import main as lightning
from qgnet.commands import main
from qgnet.common.errors import InputError
from qgnet.inference import onnx_export
from qgnet.inference.models import Model, matching_calibration, open_model
from qgnet.inference.onnx_networks import DESCRIPTION, ExportedQGNet
from qgnet.networks.encoders import create_encoder
from qgnet.networks.qgnet import QGNet

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'qgnet-lightning[onnx]'")

RANDOM = {"encoder": "test_resnet", "encoder_weights": "random"}
SIDE = 65


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray]:
    """An image (70, 90, 3) of a red disc on green, and its mask."""
    y, x = np.mgrid[:70, :90]
    mask = (y - 35) ** 2 + (x - 40) ** 2 < 400
    return np.where(mask[..., None], (200, 30, 40), (30, 160, 60)).astype(np.uint8), mask


def check_alike(model: qgnet.Segmenter, exported: qgnet.Segmenter, scene: tuple[np.ndarray, np.ndarray]) -> None:
    """One support and several, one image and many."""
    image, mask = scene
    for pairs in ([(image, mask)], [(image, mask), (image[:, ::-1], mask[:, ::-1]), (image[20:], mask[20:])]):
        first, second = (s.fit(pairs).predict_many([image[n:] for n in range(3)]) for s in (model, exported))
        for one, other in zip(first, second, strict=True):
            assert np.abs(one.probability - other.probability).max() < 1e-4
            assert abs(one.score - other.score) < 1e-3
            assert np.abs(one.guided_map - other.guided_map).max() < 1e-3
            assert (one.prior_map is None) == (other.prior_map is None)


def test_a_checkpoint_by_the_command(
    scene: tuple[np.ndarray, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    lightning(["fit", *EPISODIC, f"--run={tmp_path / 'run'}"])
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    main(["export", "--ckpt", str(checkpoint), "--out", str(tmp_path / "exported")])
    assert "maximum difference of the prediction to torch" in capsys.readouterr().out
    exported = qgnet.Segmenter(tmp_path / "exported")
    check_alike(qgnet.Segmenter(checkpoint), exported, scene)
    with pytest.raises(InputError, match="cannot be saved"):
        exported.save(tmp_path / "fitted.pt")
    for message, options in (
        ("in float32", {"bf16": True}),
        ("was exported for 65 px, not for 97", {"image_size": 97}),
    ):
        with pytest.raises(InputError, match=message):
            qgnet.Segmenter(tmp_path / "exported", **options)
    with pytest.raises(InputError, match="ONNX files already"):
        onnx_export.export(exported.model, tmp_path / "again")


def test_matching_by_the_command(
    scene: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the packaged weights, and their calibration as if it had been measured at this size."""
    calibration = matching_calibration()._replace(sides=(SIDE,))
    monkeypatch.setattr("qgnet.inference.models.matching_calibration", lambda: calibration)
    main(["export", "--image-size", str(SIDE), "--out", str(tmp_path / "exported")])
    exported = qgnet.Segmenter(tmp_path / "exported")
    assert exported.calibration == calibration
    check_alike(qgnet.Segmenter(image_size=SIDE), exported, scene)


@pytest.mark.parametrize(
    ("stage", "dilated", "score_maps"), [(3, True, ("sum",)), (4, False, ("nearest", "ridge")), (4, True, ())]
)
def test_networks_of_every_kind(stage: int, dilated: bool, score_maps: tuple[str, ...], tmp_path: Path) -> None:
    encoders = [create_encoder("test_resnet", stage, dilated) for _ in range(2)]
    net = QGNet(encoders[0], encoders[1], 8, (1, 0.6, 3), score_maps=score_maps, add_to_score_maps=bool(score_maps))
    net.requires_grad_(False).eval()
    onnx_export.export(Model(net, SIDE, "qgnet", {}, "test", "test"), tmp_path / "exported")  # compares
    assert isinstance(open_model(tmp_path / "exported").net, ExportedQGNet)


def test_nothing_is_left_where_the_answers_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "TOLERANCE", 0)
    with pytest.raises(InputError, match="answer differently from torch"):
        onnx_export.export(open_model("matching", SIDE, **RANDOM), tmp_path / "exported")
    assert not list(tmp_path.iterdir())


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file.txt").touch()
    model = open_model("matching", SIDE, **RANDOM)
    with pytest.raises(InputError, match="is there and not empty"):
        onnx_export.export(model, tmp_path / "full")
    with pytest.raises(InputError, match="is a folder without model"):
        open_model(tmp_path / "full")
    (tmp_path / "full" / DESCRIPTION).write_text("[]")
    with pytest.raises(InputError, match="damaged"):
        open_model(tmp_path / "full")

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("qgnet.inference.onnx_networks.import_module", missing)
    with pytest.raises(InputError, match=r"qgnet-lightning\[onnx\]"):
        onnx_export.export(model, tmp_path / "exported")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a QGNet with score maps."""
    encoders = [create_encoder("test_resnet", 4, False) for _ in range(2)]
    net = QGNet(encoders[0], encoders[1], 8, (1, 0.6, 3), score_maps=("nearest", "ridge"), add_to_score_maps=True)
    net.requires_grad_(False).eval()
    folder = tmp_path_factory.mktemp("export") / "exported"
    onnx_export.export(Model(net, SIDE, "qgnet", {}, "test", "test"), folder)
    return folder


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copied"))


@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx", "support.onnx"])
def test_a_flipped_byte_is_found(copied: Path, name: str) -> None:
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name} was changed or damaged .* Export the model again"):
        qgnet.Segmenter(copied)
    (copied / name).unlink()
    with pytest.raises(InputError, match=rf"{name} does not exist"):
        qgnet.Segmenter(copied)


CALIBRATED = {
    "similarity": 1,
    "strength": 1,
    "shots": 0,
    "offset": 0,
    "threshold": 0.4,
    "centre": [0.0],
    "sides": [SIDE],
}
BY_HAND: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no format": (lambda m: m.pop("format"), "of another version"),
    "another format": (lambda m: m.update(format="qgnet-onnx-9"), "of another version"),
    "no kind": (lambda m: m.pop("kind"), "has no kind"),
    "unknown kind": (lambda m: m.update(kind="unet"), "kind is 'unet'; expected one of matching, qgnet"),
    "kind of another type": (lambda m: m.update(kind=[]), "kind is []"),
    "the other kind": (lambda m: m.update(kind="matching"), "the network has no method"),
    "size as text": (lambda m: m.update(image_size="65"), "image_size is '65'"),
    "size true": (lambda m: m.update(image_size=True), "image_size is True"),
    "another size": (lambda m: m.update(image_size=129), "encoder.onnx is for 65 px"),
    "size NaN": (lambda m: m.update(image_size=float("nan")), "image_size is nan"),
    "no network": (lambda m: m.update(network=None), "network is None"),
    "other checksums": (lambda m: m.update(identity="onnx " + "0" * 64), "damaged since the export"),
    "no checksum": (lambda m: m.update(identity=None), "identity is None"),
    "unknown score map": (lambda m: m["network"].update(margins=["far"]), "margins is ['far']"),
    "fewer weights": (lambda m: m["network"].update(margin_weights=[1.0]), "1 margin_weights for 2 margins"),
    "weights NaN": (lambda m: m["network"].update(margin_weights=[1.0, float("nan")]), "margin_weights is [1.0, nan]"),
    "sizes of one": (lambda m: m["network"].update(mask_sizes=[[9]]), "mask_sizes is [[9]]"),
    "no flag": (lambda m: m["network"].update(cross_correspondence="yes"), "cross_correspondence is 'yes'"),
    "calibration a list": (lambda m: m.update(calibration=[1]), "calibration is [1]"),
    "calibration without centre": (lambda m: m.update(calibration={}), "the calibration has no"),
    "calibration NaN": (lambda m: m.update(calibration=CALIBRATED | {"offset": float("nan")}), "offset is nan"),
    "threshold": (lambda m: m.update(calibration=CALIBRATED | {"threshold": 40}), "threshold is 40"),
}


@pytest.mark.parametrize("change", BY_HAND)
def test_a_description_changed_by_hand(copied: Path, change: str) -> None:
    do, message = BY_HAND[change]
    description = json.loads((copied / DESCRIPTION).read_text())
    do(description)
    (copied / DESCRIPTION).write_text(json.dumps(description))
    with pytest.raises(InputError) as error:
        qgnet.Segmenter(copied)
    assert message in str(error.value)
    assert str(copied) in str(error.value)
    assert "xport the model again" in str(error.value)


def test_a_calibration_of_other_features(copied: Path, scene: tuple[np.ndarray, np.ndarray]) -> None:
    description = json.loads((copied / DESCRIPTION).read_text())
    (copied / DESCRIPTION).write_text(json.dumps(description | {"calibration": CALIBRATED}))
    with pytest.raises(InputError, match="its centre has 1 values"):
        qgnet.Segmenter(copied).fit([scene]).predict(scene[0])
