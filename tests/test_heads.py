"""The heads of others, through the real commands: every YAML of ``heads/``, resumed, tested, opened, reported."""

import json
from pathlib import Path

import pytest
import torch
from conftest import CONFIGS, Command

from qgnet.commands import main as qgnet
from qgnet.inference.model_names import TRAINABLE
from qgnet.inference.models import open_model

HEADS = {"hsnet": "HSNet", "dcama": "DCAMA", "pfenet": "PFENet", "score_maps": "score maps"}
"""YAML → the method's name."""


def test_every_head_has_a_configuration() -> None:
    assert {path.stem for path in (CONFIGS / "heads").glob("*.yaml")} == set(HEADS)


@pytest.mark.parametrize("head", HEADS)
def test_a_head_is_trained_tested_and_opened(command: Command, head: str, capsys: pytest.CaptureFixture) -> None:
    config = f"heads/{head}.yaml"
    command("fit", config, "--run=runs/x")
    last = Path("runs/x/checkpoints/last.ckpt")
    for shots in (1, 2):
        command("test", config, f"--ckpt_path={last}", f"--run=runs/{shots}", f"--data.shots={shots}")
        result = json.loads(Path(f"runs/{shots}/results.json").read_text())
        assert result["method"] == HEADS[head]
        assert 0 <= result["scores"][HEADS[head]]["miou"] <= 1
    model = open_model(last)
    assert model.image_size == 65
    own = torch.load(last, weights_only=True)["state_dict"]
    assert all(torch.equal(value, own[f"net.{key}"]) for key, value in model.net.state_dict().items())
    qgnet(["report", "runs"])
    qgnet(["report", "runs", "--classes"])
    assert HEADS[head] in capsys.readouterr().out


def test_heads_stand_side_by_side_on_the_same_episodes(command: Command, capsys: pytest.CaptureFixture) -> None:
    """Where protocol and seed are the same; otherwise in tables of their own, or with a note."""
    same = ["--data.protocol.name=qgnet", "--data.seed=3"]
    for head in HEADS:
        command("test", f"heads/{head}.yaml", *same)
    capsys.readouterr()
    qgnet(["report", "runs"])
    printed = capsys.readouterr().out
    assert printed.count("1-shot, protocol qgnet, 4 episodes") == 1
    assert [line.split()[0] for line in printed.splitlines() if line.startswith(tuple(HEADS))] == sorted(HEADS)
    assert "not all on the same episodes" not in printed


def test_what_can_be_trained_is_listed(capsys: pytest.CaptureFixture) -> None:
    qgnet(["models"])
    listed = capsys.readouterr().out.splitlines()
    for network in TRAINABLE:
        (line,) = [x for x in listed if x.endswith(f" {network.configuration}")]
        assert line.startswith(network.name)
        assert network.paper in line
        assert (CONFIGS.parent / network.configuration).is_file()
    assert {f"lightning_configs/heads/{head}.yaml" for head in HEADS} < {x.configuration for x in TRAINABLE}
