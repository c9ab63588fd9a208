"""``qgnet.train`` and ``qgnet.test``: the command line's runs, called from Python."""

import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import TINY_SCENES, TINY_SEGMENTATION, TINY_TRAINER, Command
from pytorch_lightning.callbacks import Timer

import qgnet
from qgnet.cli import as_arguments

CONFIG = "lightning_configs/demo/qgnet.yaml"
TINY = [*TINY_TRAINER, *TINY_SEGMENTATION, *TINY_SCENES]


def nested(arguments: list[str]) -> dict[str, Any]:
    """``--data.fold=1`` → ``{"data": {"fold": 1}}``."""
    settings: dict[str, Any] = {}
    for argument in arguments:
        name, value = argument.removeprefix("--").split("=", 1)
        part, key = name.split(".", 1)
        settings.setdefault(part, {})[key] = yaml.safe_load(value)
    return settings


def test_settings_as_arguments() -> None:
    given = {"data": {"fold": 1, "protocol": {"name": "hsnet"}}, "run": Path("a b"), "model": {"levels": [1, 0.5]}}
    expected = ["--data.fold=1", "--data.protocol.name=hsnet", "--run=a b", "--model.levels=[1, 0.5]"]
    assert list(as_arguments(["x.yaml"], given)) == ["--config=x.yaml", *expected]


def test_ordinary_values_of_python() -> None:
    given = {"data": {"fold": np.int64(1), "paths": [Path("a")]}, "trainer": {"callbacks": [Timer()]}}
    arguments = as_arguments([], given)
    assert [next(arguments), next(arguments)] == ["--data.fold=1", '--data.paths=["a"]']
    with pytest.raises(qgnet.InputError, match=r"trainer.callbacks is \[<.*Timer.*; expected text, numbers, and lists"):
        next(arguments)


@pytest.mark.parametrize("verbose", [True, False])
def test_the_program_around_a_training_keeps_its_warnings(workdir: Path, verbose: bool) -> None:
    def shown() -> tuple[Any, ...]:
        lightning = logging.getLogger("pytorch_lightning")
        return warnings.formatwarning, lightning.level, os.environ.get("WANDB_SILENT"), len(warnings.filters)

    before = shown()
    settings = nested(TINY)
    settings["trainer"] |= {"fast_dev_run": True}
    qgnet.train(CONFIG, **settings, verbose=verbose)
    assert shown() == before


def test_a_training_and_a_test(command: Command) -> None:
    """As the commands do it, to the same files."""
    command("fit", "demo/qgnet.yaml", "--run=runs/command")
    trained = qgnet.train(CONFIG, **nested(TINY), run="runs/python")
    assert trained.folder == Path("runs/python")
    assert (trained.folder / "checkpoints/last.ckpt").is_file()
    configs = [Path(f"runs/{name}/config.yaml").read_text() for name in ("command", "python")]
    assert configs[0] == configs[1]
    tested = qgnet.test(ckpt_path=trained.folder / "checkpoints/last.ckpt", data={"shots": 2})
    result = json.loads((tested.folder / "results.json").read_text())
    assert tested.folder.parent == trained.folder
    assert result["shots"] == 2
    assert tested.scores["test/miou"] == pytest.approx(result["scores"]["QGNet"]["miou"], abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": {"shots": 0}}, "data.shots is 0; expected at least 1."),
        ({"data": {"nothing": 0}}, "'nothing' is not accepted"),
        ({"ckpt_path": "nowhere.ckpt"}, "--ckpt_path is nowhere.ckpt, which does not exist"),
        ({"trainer": {"devices": 99, "accelerator": "gpu"}}, "Correct the --trainer"),
    ],
)
def test_a_mistake_is_an_input_error(workdir: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(qgnet.InputError) as refused:
        qgnet.train(CONFIG, **(nested(TINY) | settings))
    assert message in str(refused.value)
    assert not Path("runs").exists()
