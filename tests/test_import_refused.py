"""Released files that are something else, are damaged or cannot be written."""

from pathlib import Path

import pytest
import torch
from test_import import WIDTH, Code, convert, refused, small_released
from torchvision.models import resnet18

from qgnet.released.names import read_state


def test_missing_unknown_and_misshapen_tensors_are_named(workdir: Path, capsys: pytest.CaptureFixture) -> None:
    state = small_released()
    state["down_sup.0.weight"] = state.pop("down_supp.0.weight")
    state["cls.3.weight"] = torch.zeros(3, WIDTH, 1, 1)
    state["learner_base.0"] = torch.zeros(1)
    for key in [k for k in state if k.startswith("res2.")]:
        del state[key]
    torch.save(state, "r.pth")
    error = refused(capsys, "r.pth")
    assert "down_supp.0.weight (nearest: down_sup.0.weight), res2.0.weight, res2.2.weight" in error
    assert "1 of another shape: cls.3.weight (3, 8, 1, 1) instead of (2, 8, 1, 1)" in error
    assert "learner_base.0" in error
    assert "3 missing" in error
    assert "2 unknown" in error
    state = small_released(prior=False)
    state["init_merge.1.0.weight"] = torch.zeros(WIDTH, 20, 1, 1)
    torch.save(state, "p.pth")
    assert "init_merge.1.0.weight (8, 20, 1, 1) instead of (8, 17, 1, 1)" in refused(capsys, "p.pth")


def test_wrong_number_of_levels_is_refused(workdir: Path, capsys: pytest.CaptureFixture) -> None:
    torch.save(small_released(), "r.pth")
    error = refused(capsys, "r.pth", levels=[60, 30, 15, 8])
    assert "has 2 pyramid levels" in error
    assert "60 30 15 8" in error
    with pytest.raises(SystemExit):
        convert("r.pth", levels=[7.5, 1])
    assert "7.5 is neither a side such as 30" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"conv_stem.weight": torch.zeros(1)}, "holds 1 tensors, the first conv_stem.weight, but none of what"),
        ({"down_query.0.weight": torch.zeros(1), "layer1.0.weight": torch.zeros(1)}, "VGG encoders cannot be imported"),
        ({"conv1.weight": torch.zeros(1), "layer1.0.conv1.weight": torch.zeros(1)}, "no known backbone"),
        ({"epoch": 3, "model": {}}, "a dictionary of epoch, model"),
        ({}, "Expected: tensors by name"),
        ({0: torch.zeros(1)}, "a dictionary of 0"),
        ([1, 2], "holds a list"),
    ],
    ids=["other architecture", "VGG", "cut ResNet", "no state dict", "empty", "no names", "list"],
)
def test_other_content_is_refused(workdir: Path, capsys: pytest.CaptureFixture, content: object, expected: str) -> None:
    torch.save(content, "r.pth")
    assert expected in refused(capsys, "r.pth")


def test_code_in_a_checkpoint_is_refused_and_not_run(workdir: Path, capsys: pytest.CaptureFixture) -> None:
    torch.save({"state_dict": {"conv1.weight": Code()}}, "r.pth")
    error = refused(capsys, "r.pth")
    assert "mkdir" in error
    assert "save its state_dict alone" in error
    assert not Path("proof").exists()


def test_files_that_cannot_be_read_or_written(workdir: Path, capsys: pytest.CaptureFixture) -> None:
    assert "none.pth does not exist" in refused(capsys, "none.pth")
    Path("text.pth").write_text("nothing")
    assert "text.pth cannot be read as a checkpoint" in refused(capsys, "text.pth")
    assert "ends in .ckpt or .pth" in refused(capsys, "text.pth", "out.safetensors")
    torch.save(resnet18().state_dict(), "r.pth")
    assert "text.pth/ours.ckpt cannot be written" in refused(capsys, "r.pth", "text.pth/ours.ckpt")
    Path("ours.ckpt").write_text("precious")
    assert "ours.ckpt exists and is never overwritten" in refused(capsys, "text.pth")
    assert Path("ours.ckpt").read_text() == "precious"


@pytest.mark.parametrize(
    "name", ["module.a.b", "_orig_mod.module.a.b", "module._orig_mod.a.b", "module.a._orig_mod.b", "_orig_mod.a.b"]
)
def test_read_state_takes_off_what_wrappers_add(tmp_path: Path, name: str) -> None:
    torch.save({"state_dict": {name: torch.ones(2)}}, tmp_path / "x.pth")
    assert list(read_state(tmp_path / "x.pth")) == ["a.b"]


def test_one_name_for_two_tensors_is_refused(workdir: Path, capsys: pytest.CaptureFixture) -> None:
    state = {"module.conv1.weight": torch.ones(2), "conv1.weight": torch.zeros(2)}
    torch.save(state, "r.pth")
    assert "r.pth names conv1.weight twice" in refused(capsys, "r.pth")
