import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import CONFIGS, TINY_SEGMENTATION, TINY_TRAINER, Command
from fake_data import write_voc
from PIL import Image

from qgnet.cli import main, parse
from qgnet.commands import main as qgnet
from qgnet.tasks.base import make_encoder
from qgnet.tasks.segmentation import FewShotSegmentation

ON_TOP = ("logging", "ablations")
UNTRAINED = "matching.yaml"
EXPERIMENTS = sorted(
    str(p.relative_to(CONFIGS)) for p in CONFIGS.rglob("*.yaml") if p.parent.name not in ON_TOP and p.name != UNTRAINED
)
RUN = Path("runs/x")
BEST = RUN / "checkpoints/best.ckpt"
LAST = RUN / "checkpoints/last.ckpt"


@pytest.mark.parametrize("config", EXPERIMENTS)
def test_every_experiment_fits_tests_and_predicts(command: Command, config: str) -> None:
    command("fit", config, "--run=runs/x")
    assert (RUN / "config.yaml").exists()
    assert (RUN / "metrics.csv").exists()
    assert BEST.exists()
    assert LAST.exists()
    assert list((RUN / "pictures").glob("*.png"))
    for subcommand in ("test", "predict"):
        command(subcommand, config, f"--ckpt_path={LAST}", f"--run=runs/{subcommand}")
        assert (Path("runs") / subcommand / "config.yaml").exists()
    if "pretrain" in config:
        assert (RUN / "prior_extractor.ckpt").exists()
        saved = np.load("runs/predict/descriptors.npz")
        assert np.allclose(np.linalg.norm(saved["descriptors"], axis=1), 1, atol=1e-5)
    else:
        result = json.loads(Path("runs/test/results.json").read_text())
        scores = result["scores"][result["method"]]
        assert 0 <= scores["miou"] <= 1
        assert Path("runs/test/contact_sheet.png").exists()
        predictions = list(Path("runs/predict/predictions").glob("*.png"))
        assert len(predictions) == 4
        assert set(np.unique(np.asarray(Image.open(predictions[0])))) <= {0, 255}


def test_stage_2_stands_on_the_file_that_stage_1_leaves(command: Command) -> None:
    command("fit", "demo/pretrain.yaml", "--run=runs/one", "--model.high_stage=3")
    prior = "--model.prior_weights=runs/one/prior_extractor.ckpt"
    command("fit", "demo/qgnet.yaml", "--run=runs/x", prior)
    command("test", "demo/qgnet.yaml", f"--ckpt_path={LAST}", prior, "--run=runs/t")
    digest = json.loads(Path("runs/t/results.json").read_text())["files_sha256"]["prior_weights"]
    assert len(digest) == 64
    stage_1 = torch.load("runs/one/prior_extractor.ckpt", weights_only=True)["state_dict"]
    stage_2 = torch.load(LAST, weights_only=True)["state_dict"]
    for key, value in stage_1.items():
        assert torch.equal(stage_2[f"net.prior_encoder.net.{key}"], value)
    Path("runs/one/prior_extractor.ckpt").unlink()  # the checkpoint holds all weights
    command("test", "demo/qgnet.yaml", f"--ckpt_path={LAST}", prior, "--run=runs/alone")
    assert (Path("runs/alone") / "results.json").read_text() == Path("runs/t/results.json").read_text()


def test_another_prior_extractor_is_refused_by_name(command: Command, capsys: pytest.CaptureFixture) -> None:
    for name in ("one", "two"):
        command("fit", "demo/pretrain.yaml", f"--run=runs/{name}", f"--seed_everything={len(name) + ord(name[0])}")
    command("fit", "demo/qgnet.yaml", "--run=runs/x", "--model.prior_weights=runs/one/prior_extractor.ckpt")
    with pytest.raises(SystemExit) as stop:
        command("test", "demo/qgnet.yaml", f"--ckpt_path={LAST}", "--model.prior_weights=runs/two/prior_extractor.ckpt")
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "runs/two/prior_extractor.ckpt" in error
    assert "sha256" in error


def test_another_encoder_is_refused_by_name(command: Command, capsys: pytest.CaptureFixture) -> None:
    for name in ("one", "two"):
        encoder = make_encoder("test_resnet", 3)
        torch.save(encoder.net.state_dict(), f"{name}.pth")
    settings = ["demo/qgnet.yaml", "--model.high_stage=3"]
    command("fit", *settings, "--run=runs/x", "--model.encoder_weights=one.pth")
    with pytest.raises(SystemExit) as stop:
        command("test", *settings, f"--ckpt_path={LAST}", "--model.encoder_weights=two.pth")
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "`model.encoder_weights` is two.pth (sha256" in error
    assert "set `model.encoder_weights` to random" in error
    command("test", *settings, f"--ckpt_path={LAST}", "--model.encoder_weights=random", "--run=runs/t")


def test_reloaded_checkpoint_gives_the_same_scores(command: Command) -> None:
    command("fit", "demo/qgnet.yaml", "--run=runs/x", "--trainer.limit_val_batches=1.0")
    command("validate", "demo/qgnet.yaml", f"--ckpt_path={LAST}", "--run=runs/v", "--trainer.limit_val_batches=1.0")
    command("test", "demo/qgnet.yaml", f"--ckpt_path={LAST}", "--run=runs/t", "--trainer.limit_test_batches=1.0")
    result = json.loads(Path("runs/t/results.json").read_text())
    for run in (RUN, Path("runs/v")):
        with open(run / "metrics.csv") as file:
            logged = [row["val/miou"] for row in csv.DictReader(file) if row.get("val/miou")]
        assert result["scores"]["QGNet"]["miou"] == pytest.approx(float(logged[-1]), abs=1e-6)
    task = FewShotSegmentation.load_from_checkpoint(LAST, map_location="cpu")
    saved = torch.load(LAST, weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[key]) for key, value in task.state_dict().items())


def test_command_line_beats_the_checkpoint_for_shots(command: Command) -> None:
    command("fit", "demo/qgnet.yaml", "--run=runs/x", "--data.shots=1")
    command("test", "demo/qgnet.yaml", f"--ckpt_path={LAST}", "--data.shots=3", "--run=runs/t", "--data.scenes=800")
    assert json.loads(Path("runs/t/results.json").read_text())["shots"] == 3


def test_command_line_beats_the_checkpoint_for_model_settings(command: Command) -> None:
    command("fit", "demo/qgnet.yaml", "--run=runs/x")
    command("test", "demo/qgnet.yaml", f"--ckpt_path={LAST}", "--model.auxiliary_weight=0.25", "--run=runs/t")
    assert yaml.safe_load(Path("runs/t/config.yaml").read_text())["model"]["init_args"]["auxiliary_weight"] == 0.25


def test_training_resumes_where_it_stopped(command: Command) -> None:
    endless = ["--trainer.max_steps=-1", "--trainer.limit_train_batches=2"]
    command("fit", "demo/qgnet.yaml", "--run=runs/x", *endless, "--trainer.max_epochs=2")
    command("fit", "demo/qgnet.yaml", "--run=runs/y", *endless, "--trainer.max_epochs=3", f"--ckpt_path={LAST}")
    resumed = torch.load("runs/y/checkpoints/last.ckpt", weights_only=True)
    assert resumed["global_step"] == 6


def test_each_run_has_its_own_folder_and_a_test_lies_beside_its_training(command: Command) -> None:
    for _ in range(2):
        command("fit", "demo/qgnet.yaml")
    first = Path("runs/qgnet/fold0-1shot-seed321")
    assert (first / "config.yaml").exists()
    assert (first.with_name(first.name + "-2") / "config.yaml").exists()
    command("test", "demo/qgnet.yaml", f"--ckpt_path={first}/checkpoints/best.ckpt", "--data.shots=2")
    assert (first / "test-fold0-2shot-seed321-best/results.json").exists()
    config = yaml.safe_load((first / "config.yaml").read_text())
    assert config["data"]["init_args"]["shots"] == 1


def test_a_runs_config_can_be_run_again(command: Command, workdir: Path) -> None:
    command("fit", "demo/qgnet.yaml")
    first = Path("runs/qgnet/fold0-1shot-seed321")
    main(["fit", f"--config={first}/config.yaml"])
    assert (first.with_name(first.name + "-2") / "checkpoints/last.ckpt").exists()


def test_report_prints_classes_and_baselines(command: Command, capsys: pytest.CaptureFixture) -> None:
    command("fit", "demo/qgnet.yaml", "--run=runs/x")
    for shots in (1, 2):
        command("test", "demo/qgnet.yaml", f"--ckpt_path={LAST}", f"--data.shots={shots}")
    capsys.readouterr()
    qgnet(["report", "--classes", "runs"])
    printed = capsys.readouterr().out
    result = json.loads((RUN / "test-fold0-2shot-seed321-last/results.json").read_text())
    assert f"{100 * result['scores']['QGNet']['miou']:.1f}" in printed
    for word in ("mIoU", "FB-IoU", "striped disc", "1-shot", "2-shot", "everything", "guided >"):
        assert word in printed
    qgnet(["report", "runs"])
    printed = capsys.readouterr().out
    assert ["x", "1-shot", "last", "1"] in [line.split()[:4] for line in printed.splitlines()]
    assert "SyntheticDataModule, 2-shot, protocol qgnet" in printed
    assert "without fold 1, 2, 3" in printed


def test_another_training_seed_names_the_run(command: Command) -> None:
    command("fit", "demo/qgnet.yaml", "--seed_everything=7")
    checkpoint = "runs/qgnet/fold0-1shot-seed321-init7/checkpoints/last.ckpt"
    command("test", "demo/qgnet.yaml", f"--ckpt_path={checkpoint}", "--data.shots=2")
    result = json.loads(next(Path("runs").rglob("results.json")).read_text())
    assert result["trained"] == {"experiment": "qgnet", "seed": 7, "data_seed": 321, "shots": 1}


def test_parse_gives_task_and_data_without_running(workdir: Path) -> None:
    task, data = parse(["--config=lightning_configs/demo/qgnet.yaml", "--data.fold=2"])
    assert data.fold == 2
    assert task.net.enrichment.levels == (1, 0.5, 0.25, 0.125)
    assert not Path("runs").exists()


def test_installed_qgnet_answers() -> None:
    """As ``lightning`` does in test_jobs.py."""
    script = Path(sys.executable).with_name("qgnet")
    done = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    assert "usage" in done.stdout


@pytest.mark.parametrize("subcommand", ["fit", "validate", "test", "predict"])
def test_every_subcommand_has_its_help(workdir: Path, subcommand: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([subcommand, "--help"])
    assert "usage" in capsys.readouterr().out


MISTAKES = {
    "missing folder": (["--data.root=nowhere"], "nowhere does not exist. Expected the VOC layout"),
    "unknown fold": (["--data.fold=4"], "data.fold is 4"),
    "side that the encoder does not take": (["--data.image_size=64"], "Take 57 or 65"),
    "too many shots": (["--data.shots=40"], "needs 41"),
    "no shots": (["--data.shots=0"], "data.shots is 0; expected at least 1"),
    "negative batch": (["--data.batch_size=0"], "data.batch_size is 0"),
    "no prior": (["--model.prior_weights=null"], "prior_weights` is not set"),
    "missing prior": (["--model.prior_weights=none.ckpt"], "names none.ckpt, which does not exist"),
    "missing checkpoint": (["--ckpt_path=none.ckpt"], "--ckpt_path is none.ckpt"),
    "unknown encoder": (["--model.encoder=resnet51"], "no model 'resnet51'"),
    "episodes of nothing": (["--data.min_class_area=100000"], "No image holds any of the classes"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_users_mistake_is_one_paragraph_and_exit_code_2(
    command: Command, capsys: pytest.CaptureFixture, mistake: str
) -> None:
    extra, expected = MISTAKES[mistake]
    with pytest.raises(SystemExit) as stop:
        command("fit", "pascal5i_small.yaml", "--run=runs/x", *extra)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert expected in error
    assert "Traceback" not in error
    assert not (RUN / "checkpoints").exists()


def test_stages_cannot_be_mixed(workdir: Path, voc: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "fit",
                "--config=lightning_configs/demo/qgnet.yaml",
                "--data=SyntheticViewsDataModule",
                "--data.scenes=100",
                "--model.prior_weights=random",
                "--model.encoder_weights=random",
                *TINY_TRAINER,
            ]
        )
    assert stop.value.code == 2
    assert "has none" in capsys.readouterr().err


def test_wrong_prior_files_are_told_apart(command: Command, capsys: pytest.CaptureFixture) -> None:
    command("fit", "demo/pretrain.yaml", "--run=runs/one")
    Path("junk.ckpt").write_bytes(b"no checkpoint")
    torch.save({"weight": torch.zeros(3)}, "other.pth")
    cases = {
        "runs/one/checkpoints/last.ckpt": "is a training checkpoint",
        "junk.ckpt": "cannot be read",
        "other.pth": "does not fit test_resnet",
    }
    for file, message in cases.items():
        with pytest.raises(SystemExit):
            command("fit", "demo/qgnet.yaml", f"--model.prior_weights={file}")
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command("fit", "demo/qgnet.yaml", "--model.prior_weights=runs/one/prior_extractor.ckpt", "--model.high_stage=4")
    assert "up to stage 3, but the configuration asks for" in capsys.readouterr().err


def test_checkpoint_of_another_network_is_refused_with_the_settings_that_differ(
    command: Command, capsys: pytest.CaptureFixture
) -> None:
    command("fit", "demo/qgnet.yaml", "--run=runs/x")
    with pytest.raises(SystemExit) as stop:
        command("test", "demo/qgnet.yaml", f"--ckpt_path={LAST}", "--model.width=16")
    assert stop.value.code == 2
    assert "width is 16, in the checkpoint 8" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["no mask", "no image", "mask of another size", "coloured mask", "broken image"])
def test_damaged_data_is_named_before_training(
    command: Command, capsys: pytest.CaptureFixture, tmp_path: Path, damage: str
) -> None:
    root = write_voc(tmp_path / "damaged")
    image, mask = root / "JPEGImages/train_003.jpg", root / "SegmentationClassAug/train_003.png"
    expected = {
        "no mask": f"{mask} does not exist",
        "no image": f"{image} does not exist",
        "mask of another size": "but its mask is 9x8 px",
        "coloured mask": "expected class numbers",
        "broken image": "cannot be decoded",
    }[damage]
    if damage == "no mask":
        mask.unlink()
    elif damage == "no image":
        image.unlink()
    elif damage == "mask of another size":
        Image.fromarray(np.ones((8, 9), np.uint8)).save(mask)
    elif damage == "coloured mask":
        Image.open(mask).convert("RGB").save(mask)
    else:
        image.write_bytes(b"nothing")
    with pytest.raises(SystemExit) as stop:
        command("fit", "pascal5i_small.yaml", f"--data.root={root}", "--run=runs/x")
    assert stop.value.code == 2
    assert expected in capsys.readouterr().err


def test_run_folder_is_never_overwritten(command: Command, capsys: pytest.CaptureFixture) -> None:
    command("fit", "demo/qgnet.yaml", "--run=runs/x")
    with pytest.raises(SystemExit):
        command("fit", "demo/qgnet.yaml", "--run=runs/x")
    assert "already holds a run" in capsys.readouterr().err


def test_last_and_best_are_those_of_the_configurations_own_training(
    command: Command, capsys: pytest.CaptureFixture
) -> None:
    folder = Path("runs/qgnet")
    for name in ("last", "best"):
        with pytest.raises(SystemExit) as stop:  # not, as Lightning would, a test of untrained weights
            command("test", "demo/qgnet.yaml", f"--ckpt_path={name}")
        assert stop.value.code == 2
        assert f"--ckpt_path {name} finds no checkpoints/{name}.ckpt in {folder}" in capsys.readouterr().err
    command("fit", "demo/qgnet.yaml")
    command("fit", "demo/qgnet.yaml", "--seed_everything=5")  # newer, but of another configuration
    own = folder / "fold0-1shot-seed321"
    for name in ("last", "best"):
        command("test", "demo/qgnet.yaml", f"--ckpt_path={name}", f"--run=runs/{name}")
        config = yaml.safe_load(Path(f"runs/{name}/config.yaml").read_text())
        assert config["ckpt_path"] == str(own / f"checkpoints/{name}.ckpt")
    with pytest.raises(SystemExit):
        command("test", "demo/qgnet.yaml", "--ckpt_path=last", "--run=runs/last")
    assert "already holds a run. Choose another folder, remove that one, or leave --run out." in capsys.readouterr().err
    command("test", "demo/qgnet.yaml", "--ckpt_path=last")
    assert (own / "test-fold0-1shot-seed321-last/results.json").exists()
    command("fit", "demo/qgnet.yaml", "--trainer.max_steps=3", "--trainer.max_epochs=2", "--ckpt_path=last")
    assert (own / "metrics-1.csv").exists()


def test_segmentation_settings_cover_what_the_tiny_ones_override() -> None:
    """A renamed setting would make the overrides above test something else than the shipped files."""
    text = (CONFIGS / "pascal5i.yaml").read_text()
    for name in ("encoder", "encoder_weights", "prior_encoder", "prior_weights", "width", "levels"):
        assert any(arg.startswith(f"--model.{name}=") for arg in TINY_SEGMENTATION)
        assert f"{name}:" in text
