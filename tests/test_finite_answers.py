"""Weights with NaN say nothing: no command takes that for empty masks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import EPISODIC, Command
from PIL import Image
from test_segment import MACHINE, draw

from qgnet.cli import main
from qgnet.commands import main as qgnet
from qgnet.inference.tuning import Choice, FittedClass, SupportReport
from qgnet.tasks.finite import EVERY, FiniteWatch

NOT_FINITE = "is not finite (NaN or infinite)"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a QGNet, one of whose weights is NaN."""
    run = tmp_path_factory.mktemp("run")
    main(["fit", *EPISODIC, f"--run={run}"])
    path = run / "checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    next(value for key, value in content["state_dict"].items() if "enrichment" in key).view(-1)[0] = float("nan")
    torch.save(content, path)
    return path


@pytest.mark.parametrize("subcommand", ["test", "validate", "predict"])
def test_an_evaluation(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture, subcommand: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main([subcommand, *EPISODIC, f"--ckpt_path={checkpoint}", f"--run={tmp_path / 'run'}"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert f"{NOT_FINITE}. Its weights are of {checkpoint}." in error
    assert not list(tmp_path.rglob("results.json"))
    assert not list(tmp_path.rglob("predictions/*.png"))


def test_images(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A support is the first image that the network sees; one image may be the only one it fails on."""
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        draw(tmp_path / f"photos/{number}.jpg", number)
    Image.fromarray(draw(tmp_path / "a.jpg", 100)).save("a.png")
    command = ["segment", "photos", "--support", "a.jpg", "a.png", "--out", "out", *MACHINE, "--ckpt", str(checkpoint)]
    with pytest.raises(SystemExit) as stop:
        qgnet(command)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert f"The network's output for support 1 of 'object' {NOT_FINITE}" in error
    assert f"Its weights are of {checkpoint}" in error
    monkeypatch.setattr("qgnet.inference.segmenter.Segmenter._fit_class", learn_anyway)
    with pytest.raises(SystemExit) as stop:
        qgnet(command)
    assert stop.value.code == 2
    assert f"The network's output for photos/0.jpg {NOT_FINITE}" in capsys.readouterr().err
    assert not list(Path("out").rglob("*.png"))


def learn_anyway(segmenter, name, pairs):
    """As if the supports alone were answered."""
    side = segmenter.model.image_size
    with torch.inference_mode():
        image, mask = torch.zeros(3, side, side, dtype=torch.uint8), torch.ones(side, side)
        encoded = [segmenter.model.net.stack_shots([segmenter.network.support_and_query(image, mask)[0]])]
    return FittedClass(name, encoded, Choice(), [SupportReport(name, 1, 0.5, False)])


def test_stage_1(command: Command, capsys: pytest.CaptureFixture) -> None:
    command("fit", "demo/pretrain.yaml", "--run=runs/one")
    content = torch.load("runs/one/checkpoints/last.ckpt", weights_only=True)
    for key, value in content["state_dict"].items():
        if key.startswith("net.key.encoder") and value.is_floating_point():
            value.fill_(float("nan"))
    torch.save(content, "nan.ckpt")
    for subcommand in ("test", "predict"):
        with pytest.raises(SystemExit) as stop:
            command(subcommand, "demo/pretrain.yaml", "--ckpt_path=nan.ckpt", f"--run=runs/{subcommand}")
        assert stop.value.code == 2
        assert f"{NOT_FINITE}. Its weights are of nan.ckpt." in capsys.readouterr().err
    assert not list(Path("runs").rglob("descriptors.npz"))


def test_a_device_is_waited_for_now_and_then() -> None:
    watch = FiniteWatch()
    times = [watch.add([f"{i}a", f"{i}b"], torch.tensor([[1.0], [np.nan if i == 7 else 2.0]])) for i in range(EVERY)]
    assert times == [False] * (EVERY - 1) + [True]
    assert watch.first_not_finite() == "7b"
    assert watch.first_not_finite() is None
