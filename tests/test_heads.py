"""The heads of others, through the real commands: every YAML of ``heads/``, resumed, tested, opened, reported."""

import json
import runpy
import sys
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
        assert (CONFIGS / network.configuration).is_file()
    assert {f"heads/{head}.yaml" for head in HEADS} < {x.configuration for x in TRAINABLE}


def test_the_bench_takes_checkpoints_and_refuses_their_base_classes(
    command: Command, voc: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    bench = str(CONFIGS.parent / "benchmarks/heads.py")
    command("fit", "heads/hsnet.yaml", "--data.fold=2", "--run=runs/x")
    settings = ["--episodes=4", "--image-size=65", "--min-class-area=50", "--shots", "1", "2", "--encoder=test_resnet"]
    settings += [f"--root={voc}", "--encoder-weights=random", "a head=runs/x/checkpoints/last.ckpt"]
    capsys.readouterr()
    for fold in (2, 1):
        monkeypatch.setattr(sys, "argv", ["heads.py", f"--fold={fold}", *settings])
        if fold == 1:
            with pytest.raises(SystemExit, match="2"):
                runpy.run_path(bench, run_name="__main__")
            assert "asked for as novel, but this checkpoint was trained on" in capsys.readouterr().err
        else:
            runpy.run_path(bench, run_name="__main__")
            table = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
            methods = ["nearest", "prototype", "ridge", "sum"]
            assert [row[0] for row in table[1:]] == ["| a head", *(f"| matching by {method}" for method in methods)]
            assert all(len(row) == 7 for row in table)
            assert table[1][2].endswith(" M")
