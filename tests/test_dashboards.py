import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import wandb
import yaml
from conftest import Command
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb_file import read_run

from qgnet.cli import main
from qgnet.loggers import wandb as loggers
from qgnet.loggers.naming import revision
from qgnet.tasks.segmentation import FewShotSegmentation

WANDB = "--config=lightning_configs/logging/wandb.yaml"
EPOCH = ["--trainer.max_steps=-1", "--trainer.log_every_n_steps=1"]
FOLD = Path("runs/qgnet/fold0-1shot-seed321")


@pytest.fixture(autouse=True)
def ended(monkeypatch: pytest.MonkeyPatch):
    """Each test begins and ends without a wandb run."""
    monkeypatch.delenv("WANDB_MODE", raising=False)
    yield
    wandb.teardown()


def finish() -> None:
    """End the wandb run and wait for wandb's own process: it may still write after ``wandb.finish``."""
    wandb.finish()
    wandb.teardown()


def finished(command: Command, *arguments: str) -> None:
    command(*arguments)
    finish()


def test_a_training_and_its_test_are_two_runs_of_one_group(command: Command) -> None:
    finished(command, "fit", "demo/qgnet.yaml", WANDB, *EPOCH)
    finished(command, "test", "demo/qgnet.yaml", WANDB, f"--ckpt_path={FOLD}/checkpoints/last.ckpt", "--data.shots=2")
    fit, test = read_run(FOLD), read_run(FOLD / "test-fold0-2shot-seed321-last")
    assert fit.group == test.group == "qgnet test_resnet 1-shot"
    assert fit.id != test.id
    assert (fit.name, test.name) == ("fold0-1shot-seed321", "test-fold0-2shot-seed321-last")
    assert (fit.job_type, test.job_type) == ("fit", "test")
    assert (fit.project, test.project) == ("qgnet", "qgnet")
    assert set(fit.tags) == {"stage 2", "fit", "protocol qgnet", "fold 0", "1-shot"}
    assert set(test.tags) == {"stage 2", "test", "protocol qgnet", "fold 0", "2-shot"}
    assert [run.config["settings"]["data"]["init_args"]["shots"] for run in (fit, test)] == [1, 2]


def test_a_test_by_the_trainings_own_configuration_is_a_run_of_its_own(command: Command) -> None:
    finished(command, "fit", "demo/qgnet.yaml", WANDB)
    main(["test", f"--ckpt_path={FOLD}/checkpoints/last.ckpt"])
    finish()
    fit, test = read_run(FOLD), read_run(FOLD / "test-fold0-1shot-seed321-last")
    assert fit.id != test.id
    assert (fit.name, test.name) == ("fold0-1shot-seed321", "test-fold0-1shot-seed321-last")
    assert (fit.job_type, test.job_type) == ("fit", "test")


def test_a_training_logs_what_its_users_look_for(command: Command) -> None:
    command("fit", "demo/pretrain.yaml", "--run=runs/one", "--model.high_stage=3")
    prior = "--model.prior_weights=runs/one/prior_extractor.ckpt"
    finished(command, "fit", "demo/qgnet.yaml", WANDB, *EPOCH, prior, "--run=runs/x")
    assert Path("runs/x/metrics.csv").exists()
    run = read_run(Path("runs/x"))
    for name in ("train/loss", "train/main_loss", "train/auxiliary_loss", "train/episodes_per_second"):
        assert name in run.history
    for name in ("train/data_wait", "val/miou", "val/fb_iou", "lr-AdamW", "trainer/global_step"):
        assert name in run.history
    assert run.summary["val/miou"] == run.history["val/miou"][-1]
    assert run.history["val/episodes"][0]["_type"] == "images/separated"
    overlays = run.history["val/episodes_overlays"][0]
    assert overlays["count"] == 2 * 4  # support and query of two batches of two
    assert set(overlays["all_masks"][1]) == {"prediction", "ground truth", "guided map", "prior map"}
    assert overlays["captions"][0].endswith(", support")
    assert run.history["val/class_iou_table"][0]["_type"] == "table-file"
    assert run.history["val/class_iou_table"][0]["nrows"] == 4  # classes that had an episode
    digest = run.config["files_sha256"]["prior_weights"]
    assert len(digest) == 64
    assert run.config["versions"]["torch"]
    assert run.config["revision"] == revision()
    resolved = yaml.safe_load(Path("runs/x/config.yaml").read_text())
    assert run.config["settings"]["model"]["init_args"] == resolved["model"]["init_args"]
    assert run.config["settings"]["data"]["init_args"]["protocol"]["resize"] == "pad"


def test_a_test_logs_its_table_its_extremes_and_the_report(command: Command) -> None:
    command("fit", "demo/qgnet.yaml")
    last = f"--ckpt_path={FOLD}/checkpoints/last.ckpt"
    command("test", "demo/qgnet.yaml", last, "--data.seed=5")
    finished(command, "test", "demo/qgnet.yaml", WANDB, last)
    folder = FOLD / "test-fold0-1shot-seed321-last"
    run = read_run(folder)
    result = json.loads((folder / "results.json").read_text())["scores"]["QGNet"]
    assert run.history["test/miou"] == [pytest.approx(result["miou"])]
    assert run.history["test/fb_iou"] == [pytest.approx(result["fb_iou"])]
    for picture in ("test/episodes", "test/worst_and_best"):
        assert run.history[picture][0]["_type"] == "images/separated"
        assert run.history[f"{picture}_overlays"][0]["all_masks"]
    assert (folder / "worst_and_best.png").exists()
    table = next(path for path in folder.glob("wandb/offline-run-*/files/media/table/test/report*.json"))
    report = json.loads(table.read_text())
    assert report["columns"][:5] == ["test", "experiment", "trained", "checkpoint", "seeds"]
    (row,) = report["data"]
    assert row[1:5] == ["qgnet", "1-shot", "last", "2"]
    assert "±" in row[5]


def test_stage_1_has_its_group_and_pictures(command: Command) -> None:
    finished(command, "fit", "demo/pretrain.yaml", WANDB, *EPOCH, "--run=runs/x")
    run = read_run(Path("runs/x"))
    assert run.group == "x test_resnet"
    assert set(run.tags) == {"stage 1", "fit"}
    for picture in ("train/views", "val/prior_maps"):
        assert run.history[picture][0]["_type"] == "images/separated"


class Interrupted(Exception):
    pass


def test_a_run_that_goes_on_keeps_folder_id_and_metrics(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs = ["--trainer.max_epochs=2", *EPOCH]

    def cut_off(task: FewShotSegmentation) -> None:
        if task.current_epoch == 1:
            raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr(FewShotSegmentation, "on_train_epoch_end", cut_off, raising=False)
        with pytest.raises(Interrupted):
            command("fit", "demo/qgnet.yaml", WANDB, *epochs)
    finish()
    before = read_run(FOLD)
    finished(command, "fit", "demo/qgnet.yaml", WANDB, *epochs, "--ckpt_path=last")
    after = read_run(FOLD)
    assert before.id == after.id
    assert len(list(FOLD.glob("wandb/offline-run-*"))) == 2
    assert (FOLD / "metrics-1.csv").exists()
    assert (FOLD / "metrics.csv").exists()
    assert not FOLD.with_name(FOLD.name + "-2").exists()


def test_a_run_that_goes_on_keeps_the_id_it_was_given(command: Command) -> None:
    finished(command, "fit", "demo/qgnet.yaml", WANDB, *EPOCH, "--trainer.logger.id=mine")
    finished(command, "fit", "demo/qgnet.yaml", WANDB, *EPOCH, "--trainer.max_epochs=2", "--ckpt_path=last")
    assert read_run(FOLD).id == "mine"
    assert len(list(FOLD.glob("wandb/offline-run-*-mine"))) == 2


def test_nothing_to_go_on_with(command: Command, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        command("fit", "demo/qgnet.yaml", "--ckpt_path=last")
    assert stop.value.code == 2
    assert "--ckpt_path last finds no checkpoints/last.ckpt" in capsys.readouterr().err


class Unauthorised(BaseHTTPRequestHandler):
    """A server that knows no key."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def refusing() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Unauthorised) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("case", ["no account", "no network", "malformed key", "wrong key"])
def test_a_wandb_that_cannot_be_had_never_stops_a_training(
    command: Command, monkeypatch: pytest.MonkeyPatch, case: str, refusing: str
) -> None:
    key = {"no account": "", "malformed key": "abc"}.get(case, "0" * 40)
    monkeypatch.setattr(loggers, "TIMEOUT", 2)
    monkeypatch.setenv("WANDB_BASE_URL", refusing if case == "wrong key" else "http://127.0.0.1:9")
    monkeypatch.setenv("HOME", str(Path.cwd()))  # no .netrc
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    with pytest.warns(UserWarning, match="wandb cannot be had"):
        finished(command, "fit", "demo/qgnet.yaml", WANDB, "--trainer.logger.offline=false", "--run=runs/x")
    assert Path("runs/x/checkpoints/last.ckpt").exists()
    assert "val/miou" in read_run(Path("runs/x")).history


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("project=", "has no project"),
        ("project=a/b", "wandb logger's project is 'a/b': Invalid project name"),
        ("id=a/b", "wandb logger's id is 'a/b': Run ID cannot contain the characters"),
        ("id=", "wandb logger's id is '': Run ID cannot be empty"),
        (f"id={'x' * 300}", "expected at most 128 printable characters. Give another: --trainer.logger.id."),
        ("tags=['']", "Tag at index 0 is empty. Tags must be between 1 and 64 characters. Give another"),
        ("log_checkpoints=all", "cannot be uploaded offline"),
        ("log_checkpoints=sometimes", "log_checkpoints"),
    ],
)
def test_settings_that_cannot_work_are_named(
    command: Command, capsys: pytest.CaptureFixture, setting: str, message: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        command("fit", "demo/qgnet.yaml", WANDB, f"--trainer.logger.{setting}")
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()


def test_tensorboard_has_the_same_names_and_pictures(command: Command) -> None:
    command("fit", "demo/qgnet.yaml", "--config=lightning_configs/logging/tensorboard.yaml", *EPOCH, "--run=runs/x")
    events = EventAccumulator(str(next(Path("runs/x").rglob("events.out.tfevents.*")).parent))
    events.Reload()
    assert {"train/loss", "val/miou", "val/fb_iou", "train/episodes_per_second"} <= set(events.Tags()["scalars"])
    assert "val/episodes" in events.Tags()["images"]


def test_the_revision_is_that_of_the_checkout() -> None:
    git = ["git", "-C", str(Path(loggers.__file__).parent), "rev-parse", "HEAD"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    if done.returncode:
        assert revision() is None
    else:
        assert (revision() or "").rstrip("+").endswith(done.stdout.strip())
