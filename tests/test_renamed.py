"""Settings under the names that they had once."""

from pathlib import Path

import pytest
import torch
import yaml
from conftest import CONFIGS, Command

from qgnet import FewShotSegmentation
from qgnet.cli import main, parse
from qgnet.common.settings import MOVED
from qgnet.config.command_line import CommandLine

OLD = {"prior_checkpoint": "prior_weights", "margins": "score_maps", "add_margins": "add_to_score_maps"}


def prior_of(run: str) -> str:
    settings = yaml.safe_load((Path(run) / "config.yaml").read_text())["model"]["init_args"]
    assert not set(settings) & set(OLD)
    return settings["prior_weights"]


def test_an_old_option_beats_a_configuration_of_today(command: Command) -> None:
    command("fit", "demo/pretrain.yaml", "--run=runs/one")
    command("fit", "demo/qgnet.yaml", "--run=runs/x", "--model.prior_checkpoint=runs/one/prior_extractor.ckpt")
    command("fit", "demo/qgnet.yaml", "--run=runs/y", "--model.prior_checkpoint", "runs/one/prior_extractor.ckpt")
    command("fit", "demo/qgnet.yaml", "--run=runs/z", "--model.init_args.prior_checkpoint", "random")
    assert [prior_of(f"runs/{name}") for name in "xyz"] == ["runs/one/prior_extractor.ckpt"] * 2 + ["random"]


def test_an_option_of_today_beats_an_old_configuration(command: Command) -> None:
    command("fit", "demo/qgnet.yaml", "--run=runs/x")
    text = (Path("runs/x") / "config.yaml").read_text()
    Path("old.yaml").write_text(text.replace("prior_weights: random", "prior_checkpoint: none.ckpt"))
    main(["fit", "--config=old.yaml", "--run=runs/y", "--model.prior_weights=random"])
    assert prior_of("runs/y") == "random"
    task, _ = parse(["--config=old.yaml"])
    assert task.hparams["prior_weights"] == "none.ckpt"


@pytest.mark.parametrize(("old", "name"), [(old, new.rpartition(".")[2]) for old, new in MOVED.items()])
def test_old_import_paths_of_datamodules(tmp_path: Path, old: str, name: str) -> None:
    (tmp_path / "old.yaml").write_text(f"data:\n  class_path: {old}\n")
    stage = "demo/pretrain.yaml" if "Views" in name else "demo/qgnet.yaml"
    for option in (
        [f"--config={tmp_path / 'old.yaml'}"],
        [f"--data={old}"],
        ["--data", old],
        [f"--data.class_path={old}"],
    ):
        line = CommandLine("fit", [f"--config={CONFIGS / stage}", *option])
        assert line.config.data.class_path == f"datamodules.{name}" == MOVED[old]


def test_an_old_checkpoint_knows_its_prior_extractor(command: Command, capsys: pytest.CaptureFixture) -> None:
    for seed, name in enumerate(("one", "two")):
        command("fit", "demo/pretrain.yaml", f"--run=runs/{name}", f"--seed_everything={seed}")
    command("fit", "demo/qgnet.yaml", "--run=runs/x", "--model.prior_weights=runs/one/prior_extractor.ckpt")
    content = torch.load("runs/x/checkpoints/last.ckpt", weights_only=True)
    for part in ("hyper_parameters", "frozen_files"):
        content[part]["prior_checkpoint"] = content[part].pop("prior_weights")
    torch.save(content, "old.ckpt")
    test = ["test", "demo/qgnet.yaml", "--ckpt_path=old.ckpt"]
    command(*test, "--model.prior_weights=runs/one/prior_extractor.ckpt", "--run=runs/same")
    with pytest.raises(SystemExit):
        command(*test, "--model.prior_weights=runs/two/prior_extractor.ckpt", "--run=runs/other")
    assert "`model.prior_weights` is runs/two/prior_extractor.ckpt" in capsys.readouterr().err


def test_in_python() -> None:
    network = {"encoder": "test_resnet", "prior_encoder": "test_resnet", "width": 8, "levels": (1, 0.5)}
    old = {"prior_checkpoint": "random", "margins": ("ridge",), "add_margins": True}
    task = FewShotSegmentation(**network, **old)
    assert {name: task.hparams[OLD[name]] for name in old} == old
    weights = task.net.state_dict()
    weights["margin_weights"] = 2 * weights.pop("score_map_weights")
    task.net.load_state_dict(weights)
    assert task.net.score_map_weights.tolist() == [3.0]
