"""A protocol's name stands for its choices, over any configuration below it."""

import json
from pathlib import Path

import pytest
import yaml
from conftest import Command

from datamodules.episodic import EpisodeDataModule
from qgnet.cli import parse
from qgnet.commands import main as qgnet

CONFIG = "lightning_configs/pascal5i.yaml"


def data_of(*arguments: str) -> EpisodeDataModule:
    _, data = parse(arguments)
    assert isinstance(data, EpisodeDataModule)
    return data


@pytest.mark.parametrize(
    ("name", "episodes", "seed"), [("qgnet", 1000, 321), ("pfenet", 5000, 321), ("hsnet", 1000, 0), ("bam", 1000, 510)]
)
@pytest.mark.parametrize("config", ["pascal5i.yaml", "pascal5i_support.yaml"])
def test_over_a_shipped_configuration(workdir: Path, config: str, name: str, episodes: int, seed: int) -> None:
    data = data_of(
        f"--config=lightning_configs/{config}", "--model.encoder_weights=random", f"--data.protocol.name={name}"
    )
    assert (data.episodes, data.seed) == (episodes, seed)


def test_over_pinned_choices_and_saved_configurations(command: Command, capsys: pytest.CaptureFixture) -> None:
    command("test", "pascal5i.yaml", "--run=runs/t", "--data.protocol.resize=squash")
    content = yaml.safe_load(Path("runs/t/config.yaml").read_text())
    choices = content["data"]["init_args"]
    Path("saved.yaml").write_text(yaml.safe_dump({key: content[key] for key in ("model", "data")}))
    saved = "--config=saved.yaml"
    assert choices["protocol"]["resize"] == "squash"
    assert (choices["episodes"], choices["seed"]) == (6, 321)
    assert data_of(saved).protocol.resize == "squash"
    for arguments in (
        [saved, "--data.protocol.name=hsnet"],
        ["--config", "saved.yaml", "--data.protocol.name", "hsnet"],
    ):
        data = data_of(*arguments)
        assert (data.seed, data.episodes) == (0, 1000)
        assert data.protocol == data_of(f"--config={CONFIG}", "--data.protocol.name=hsnet").protocol
    kept = data_of(saved, "--data.seed=7", "--data.protocol.name=pfenet", "--data.protocol.score_at=network")
    assert (kept.seed, kept.episodes) == (7, 5000)
    assert (kept.protocol.resize, kept.protocol.score_at) == ("pad", "network")


def test_of_one_file_over_another(workdir: Path) -> None:
    Path("low.yaml").write_text("data: {init_args: {seed: 5, episodes: 9, protocol: {resize: squash}}}\n")
    Path("bam.yaml").write_text("data: {init_args: {seed: 6, protocol: {name: bam}}}\n")
    low, bam = "--config=low.yaml", "--config=bam.yaml"
    data = data_of(f"--config={CONFIG}", low, bam)
    assert (data.seed, data.episodes, data.protocol.name, data.protocol.resize) == (6, 1000, "bam", "pad")
    data = data_of(f"--config={CONFIG}", bam, low)
    assert (data.seed, data.episodes, data.protocol.name, data.protocol.resize) == (5, 9, "bam", "squash")


def test_all_seeds_of_a_protocol_are_tested_and_averaged(command: Command, capsys: pytest.CaptureFixture) -> None:
    several = "--data.protocol.seeds=[4,2,8]"
    command("fit", "pascal5i.yaml", several)
    command("test", "pascal5i.yaml", "--ckpt_path=last", several, "--all_seeds=true")
    printed = capsys.readouterr().out
    for seed in (4, 2, 8):
        (file,) = Path("runs/pascal5i/fold0-1shot-seed4").glob(f"test-fold0-1shot-seed{seed}-last/results.json")
        assert json.loads(file.read_text())["seed"] == seed
    row = next(line for line in printed.splitlines() if line.startswith("pascal5i "))
    assert row.split()[3] == "3"
    assert "±" in row
    qgnet(["report", "runs"])
    assert row in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command("fit", "pascal5i.yaml", "--all_seeds=true")
    assert "--all_seeds is for `lightning test`" in capsys.readouterr().err
