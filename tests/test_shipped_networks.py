"""Each shipped configuration's own network is built, on the meta device: no memory, no weights, no data."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import CONFIGS

import qgnet

STAGE_1 = ("global_", "patch")


def settings(*files: Path) -> str:
    """Class and arguments of the task of some YAMLs, a later one on top."""
    merged: dict[str, Any] = {}
    for file in files:
        model = yaml.safe_load(file.read_text()).get("model", {})
        merged |= {"class": model.get("class_path", merged.get("class"))} | model.get("init_args", {})
    merged.pop("optimizer", None)
    return json.dumps(merged, sort_keys=True)


def experiments() -> list[str]:
    """The different networks of all shipped YAMLs, an ablation on top of the experiment of its stage."""
    own = [
        settings(path) for folder in (CONFIGS, CONFIGS / "demo", CONFIGS / "heads") for path in folder.glob("*.yaml")
    ]
    for path in (CONFIGS / "ablations").glob("*.yaml"):
        base = "pretrain_voc.yaml" if path.stem.startswith(STAGE_1) else "pascal5i_support.yaml"
        own.append(settings(CONFIGS / base, path))
    return sorted(set(own))


@pytest.mark.parametrize("experiment", experiments())
def test_network(experiment: str) -> None:
    arguments = json.loads(experiment)
    name = arguments.pop("class")
    with torch.device("meta"):
        task = getattr(qgnet, name)(**arguments)
    assert {parameter.device.type for parameter in task.parameters()} <= {"meta"}
    encoders = {key: value for key, value in arguments.items() if key == "encoder"}
    assert {key: task.hparams[key] for key in encoders} == encoders
    assert any(parameter.requires_grad for parameter in task.parameters()) == (name != "SupportMatching")


def test_a_fresh_command_knows_every_class_that_a_yaml_names() -> None:
    named = {json.loads(experiment)["class"] for experiment in experiments()}
    code = (
        "from qgnet.config import command_line\n"
        "from qgnet.tasks.base import Task\n"
        "def below(kind): return {kind.__name__}.union(*map(below, kind.__subclasses__()))\n"
        "print(*below(Task))"
    )
    known = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert named <= set(known)
