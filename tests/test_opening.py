"""A checkpoint of any task over episodes is opened as QGNet's is: command, Python, saved supports, page."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import EPISODIC, TINY_HEAD, TINY_SCENES, TINY_TRAINER
from PIL import Image
from serving import DISC, browser, paint, segment, write_scenes

import qgnet
from qgnet.cli import main as lightning
from qgnet.commands import main
from qgnet.common.errors import InputError
from qgnet.inference.models import open_model
from qgnet.tasks.episodic import TASK

TOYS = Path(__file__).parent / "extending"
HEADS = {
    kind: [f"--model={task}", "--data=SyntheticDataModule", *TINY_TRAINER, *TINY_HEAD, *TINY_SCENES]
    for kind, task in (("hsnet", "HSNetSegmentation"), ("dcama", "DCAMASegmentation"))
}
TASKS = {
    "qgnet": EPISODIC,
    "toy_network.ToySegmentation": [f"--config={TOYS / 'toy_network.yaml'}", *TINY_TRAINER],
    **HEADS,
}
"""Kind of the model → settings of a training."""
MAPS = {"qgnet": ["guided", "prior"], "toy_network.ToySegmentation": ["likeness"], "hsnet": [], "dcama": []}


@pytest.fixture(scope="module", autouse=True)
def toys() -> Any:
    """The toys' folder, from which modules can be imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOYS))
        yield


@pytest.fixture(scope="module", params=TASKS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A kind, and a checkpoint of a training by the command."""
    run = tmp_path_factory.mktemp("trained") / "run"
    lightning(["fit", *TASKS[request.param], f"--run={run}"])
    return request.param, run / "checkpoints/last.ckpt"


def changed(checkpoint: Path, to: Path, **values: Any) -> Path:
    """A copy with other entries; None takes one out."""
    content = torch.load(checkpoint, weights_only=True) | values
    torch.save({key: value for key, value in content.items() if value is not None}, to)
    return to


def test_it_segments_by_the_command(trained: tuple[str, Path], tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "photographs")
    Image.fromarray(DISC).save(tmp_path / "mask.png")
    support = ["--support", str(folder / "a0.png"), str(tmp_path / "mask.png")]
    for option in ("--model", "--ckpt"):
        out = tmp_path / option
        main(["segment", str(folder), option, str(trained[1]), *support, "--out", str(out)])
        assert {file.name for file in out.glob("*.png")} >= {"a1.png", "a2.png"}


def test_it_segments_in_python_and_again_from_a_file(trained: tuple[str, Path], tmp_path: Path) -> None:
    kind, checkpoint = trained
    image = np.asarray(Image.open(write_scenes(tmp_path / "photographs") / "a0.png"))
    segmenter = qgnet.Segmenter(checkpoint).fit([(image, DISC)])
    assert segmenter.model.kind == kind
    assert segmenter.model.image_size == (64 if kind.startswith("toy") else 65)
    own = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(own[f"net.{key}"], value.cpu()) for key, value in segmenter.model.net.state_dict().items())
    found = segmenter.predict(image)
    assert list(found.maps) == MAPS[kind]
    segmenter.save(tmp_path / "fitted.pt")
    again = qgnet.Segmenter.load(tmp_path / "fitted.pt").predict(image)
    assert np.array_equal(again.probability, found.probability)


def test_the_page_shows_its_maps(trained: tuple[str, Path], tmp_path: Path) -> None:
    kind, checkpoint = trained
    folder = write_scenes(tmp_path / "photographs")
    with browser(folder, qgnet.Segmenter(checkpoint, device="cpu", presence=0)) as page:
        paint(page, "a0.png", DISC)
        assert segment(page)["a1.png"]["scores"]
        assert page.get("/api/session").json()["maps"] == MAPS[kind]


def test_what_has_no_onnx_export_says_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    run = tmp_path / "run"
    lightning(["fit", *TASKS["toy_network.ToySegmentation"], f"--run={run}"])
    with pytest.raises(SystemExit, match="2"):
        main(["export", "--ckpt", str(run / "checkpoints/last.ckpt"), "--out", str(tmp_path / "onnx")])
    message = "There is no ONNX export of toy_network.ToySegmentation, only of matching, qgnet"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "onnx").exists()


def test_one_of_an_earlier_version_is_known_by_lightnings_class_path(trained: tuple[str, Path], tmp_path: Path) -> None:
    kind, checkpoint = trained
    settings = torch.load(checkpoint, weights_only=True).get("hyper_parameters", {})
    settings = settings | {"_class_path": settings.get("_class_path", kind)}
    old = changed(checkpoint, tmp_path / "old.ckpt", **{TASK: None, "hyper_parameters": settings})
    assert open_model(old).kind == kind


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("no_such_package.Task", "The task no_such_package.Task cannot be imported"),
        ("toy_network.NoTask", "The task toy_network.NoTask cannot be imported"),
        ("toy_network.ToyNetwork", "toy_network.ToyNetwork is no task over episodes"),
        ("nothing", "The task nothing cannot be imported"),
    ],
)
def test_a_task_that_there_is_not(trained: tuple[str, Path], tmp_path: Path, task: str, message: str) -> None:
    other = changed(trained[1], tmp_path / "other.ckpt", **{TASK: task})
    with pytest.raises(InputError, match=rf"other\.ckpt is no checkpoint that can be opened\. {message}"):
        open_model(other)


def test_settings_that_the_task_does_not_take(trained: tuple[str, Path], tmp_path: Path) -> None:
    other = changed(trained[1], tmp_path / "other.ckpt", hyper_parameters={"depth": 3})
    with pytest.raises(InputError, match=r"cannot be made of the settings that the checkpoint holds .*depth"):
        open_model(other)


def test_stage_1_and_foreign_files_are_refused(trained: tuple[str, Path], tmp_path: Path) -> None:
    of_stage_1 = {"net.queue": torch.zeros(1), "net.query.projection.0.weight": torch.zeros(1)}
    task = "qgnet.tasks.pretraining.GlobalLocalPretraining"
    for named in (None, {"_class_path": task}):
        other = changed(trained[1], tmp_path / "1.ckpt", **{TASK: None}, state_dict=of_stage_1, hyper_parameters=named)
        with pytest.raises(InputError, match="is of stage 1, the prior extractor, which segments nothing"):
            open_model(other)
    torch.save({"state_dict": {"layer1.weight": torch.zeros(1)}}, tmp_path / "resnet.pth")
    with pytest.raises(InputError, match=r"is no checkpoint of stage 2\. Give the last\.ckpt or best\.ckpt"):
        open_model(tmp_path / "resnet.pth")
