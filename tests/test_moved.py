"""A training goes on in its folder, whatever the folder is called by now, and by whichever path it is named."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from conftest import EPISODIC
from jsonargparse import Namespace

from qgnet.cli import main
from qgnet.runs.folders import checkpoint_run, experiment_folder

BEST = ["--checkpoint.monitor=step", "--checkpoint.mode=max"]
"""Each epoch is better than the one before."""


def fit(epochs: int, *arguments: str) -> None:
    main(["fit", *EPISODIC, *BEST, f"--trainer.max_epochs={epochs}", *arguments])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch, written as ``runs/a``."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        fit(1, "--run=runs/a")
    return folder / "runs/a"


@pytest.fixture
def run(trained: Path, workdir: Path) -> str:
    """It, in the current folder, by the same name."""
    return str(shutil.copytree(trained, "runs/a"))


def steps(folder: str) -> dict[str, int]:
    """How far each checkpoint of a run has come."""
    files = Path(folder, "checkpoints").iterdir()
    return {file.name: torch.load(file, weights_only=True)["global_step"] for file in files}


def linked(run: str) -> str:
    Path("link").symlink_to(run)
    return "link"


WAYS = {
    "the same": str,
    "another path": os.path.abspath,
    "a link": linked,
    "another name": lambda run: shutil.move(run, "moved"),
    "a copy": lambda run: shutil.copytree(run, "copied"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_training_goes_on_in_a_folder_of_another_name(run: str, way: str) -> None:
    named = WAYS[way](run)
    fit(2, f"--run={named}", "--ckpt_path=last")
    assert steps(named) == {"best.ckpt": 4, "last.ckpt": 4}
    if way == "a copy":
        assert steps(run) == {"best.ckpt": 2, "last.ckpt": 2}


def test_the_checkpoint_may_be_named_by_another_path_than_the_run(run: str) -> None:
    Path("mine.ckpt").symlink_to(f"{run}/checkpoints/last.ckpt")
    fit(2, f"--run={run}", "--ckpt_path=mine.ckpt")
    fit(3, f"--run={run}", f"--ckpt_path={Path(run, 'checkpoints/last.ckpt').resolve()}")
    assert steps(run) == {"best.ckpt": 6, "last.ckpt": 6}


def test_a_training_goes_on_from_within_its_folder(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(run, "checkpoints"))
    fit(2, "--run=..", "--ckpt_path=last.ckpt")
    assert steps("..") == {"best.ckpt": 4, "last.ckpt": 4}


WORSE = "--checkpoint.mode=min"
"""The second epoch is worse than the first."""


def test_a_best_checkpoint_that_was_left_behind_is_written_anew(workdir: Path) -> None:
    fit(1, "--run=a", WORSE)
    fit(2, "--run=a", "--ckpt_path=last", WORSE)
    assert steps("a") == {"best.ckpt": 2, "last.ckpt": 4}
    Path("b/checkpoints").mkdir(parents=True)
    shutil.copy("a/checkpoints/last.ckpt", "b/checkpoints")
    fit(3, "--run=b", "--ckpt_path=last", WORSE)
    assert steps("b") == {"best.ckpt": 6, "last.ckpt": 6}


def test_another_run_of_the_same_name_elsewhere(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths as text are equal; the folders are not."""
    fit(1, "--run=a", WORSE)
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    fit(2, "--run=a", "--ckpt_path=../a/checkpoints/last.ckpt", WORSE)
    assert steps("a") == {"best.ckpt": 4, "last.ckpt": 4}
    assert steps("../a") == {"best.ckpt": 2, "last.ckpt": 2}


def test_checkpoints_are_not_written_over_without_their_configuration(run: str, capsys: pytest.CaptureFixture) -> None:
    Path(run, "config.yaml").unlink()
    with pytest.raises(SystemExit, match="2"):
        fit(2, f"--run={run}")
    assert "already holds a run" in capsys.readouterr().err
    assert steps(run) == {"best.ckpt": 2, "last.ckpt": 2}


def test_the_run_of_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a/checkpoints").mkdir(parents=True)
    (tmp_path / "a/checkpoints/last.ckpt").touch()
    (tmp_path / "mine.ckpt").symlink_to("a/checkpoints/last.ckpt")
    (tmp_path / "weights.ckpt").touch()
    for place, checkpoint in ((".", "a/checkpoints/last.ckpt"), (".", "mine.ckpt"), ("a", "checkpoints/last.ckpt")):
        monkeypatch.chdir(tmp_path / place)
        assert checkpoint_run(Path(checkpoint)).resolve() == tmp_path / "a"
    monkeypatch.chdir(tmp_path / "a/checkpoints")
    assert checkpoint_run(Path("last.ckpt")) == tmp_path / "a"
    assert checkpoint_run(tmp_path / "weights.ckpt") == tmp_path
    for config in ("../config.yaml", str(tmp_path / "a/config.yaml")):
        assert experiment_folder(Namespace(config=[config])) == tmp_path
    monkeypatch.chdir(tmp_path / "a")
    assert experiment_folder(Namespace(config=["config.yaml"])) == tmp_path
