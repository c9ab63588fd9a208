import copy
import csv
import itertools
import math
import warnings
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import pytorch_lightning as pl
import timm
import torch
from conftest import Command
from PIL import Image

from datamodules import UnlabeledDataModule
from qgnet.callbacks.requeue import Requeue
from qgnet.common.errors import InputError
from qgnet.tasks.pretraining import GlobalLocalPretraining

RUN = Path("runs/x")


def logged(run: str = "x") -> dict[str, list[float]]:
    columns: dict[str, list[float]] = {}
    with open(f"runs/{run}/metrics.csv") as file:
        for row in csv.DictReader(file):
            for key, value in row.items():
                if value:
                    columns.setdefault(key, []).append(float(value))
    return columns


def test_a_run_can_be_watched(command: Command) -> None:
    command("fit", "demo/pretrain.yaml", "--run=runs/x", "--trainer.log_every_n_steps=1", "--trainer.max_steps=-1")
    metrics = logged()
    for name in (
        "loss",
        "global_global",
        "local_global",
        "local_local",
        "accuracy/global_global",
        "accuracy/local_global",
        "accuracy/local_local",
        "spread",
        "fallback_share",
    ):
        assert f"val/{name}" in metrics
        assert len(metrics[f"train/{name}"]) == 2
    assert metrics["train/queue_age"] == [0, 1]  # the queue of 8 holds two steps of 2 images with 2 views
    assert 0 < metrics["train/spread"][0] < 1
    assert metrics["train/images_per_second"][0] > 0
    assert 0 <= metrics["train/data_wait"][0] <= 1
    assert 0 < metrics["val/prior_ap"][0] <= 1
    assert 0 < metrics["val/prior_iou"][0] <= 1
    pictures = {path.name for path in (RUN / "pictures").iterdir()}
    assert pictures == {"views-000000.png", "views-000002.png", "prior_maps-000002.png"}


def test_without_masks_prior_maps_are_drawn_but_not_scored(command: Command) -> None:
    command("fit", "pretrain_folder.yaml", "--run=runs/x")
    assert list((RUN / "pictures").glob("prior_maps-*.png"))
    assert not any("prior" in name for name in logged())


def test_collapse_is_reported(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("fit", "demo/pretrain.yaml", "--trainer.max_steps=-1")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The embeddings have collapsed")
        command(*arguments, "--run=runs/healthy")

    def one_point(task: GlobalLocalPretraining) -> None:
        for parameter in task.net.query.projection[2].parameters():
            parameter.data.fill_(1)

    monkeypatch.setattr(GlobalLocalPretraining, "on_train_start", one_point)
    with pytest.warns(UserWarning, match=r"The embeddings have collapsed: their spread is 0\.0"):
        command(*arguments, "--run=runs/x")


@pytest.mark.parametrize("config", ["demo/pretrain.yaml", "demo/qgnet.yaml"])
def test_a_loss_that_is_no_number_stops_with_a_checkpoint(
    command: Command, config: str, capsys: pytest.CaptureFixture
) -> None:
    optimizer = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=1e30"]
    with pytest.raises(SystemExit) as stop:
        command("fit", config, "--run=runs/x", *optimizer, "--trainer.max_steps=-1", "--trainer.log_every_n_steps=2")
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "The training loss is not finite at step 2" in error
    assert "Lower the learning rate" in error
    assert "state_dict" in torch.load(RUN / "checkpoints/not_finite.ckpt", weights_only=True)
    assert not (RUN / "checkpoints/last.ckpt").exists()  # an earlier one would not have been overwritten


def test_images_of_all_kinds_serve(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(256, size=(60, 90, 4), dtype=np.uint8)
    Image.fromarray(colour, "RGBA").save(tmp_path / "rgba.png")
    Image.fromarray(colour[..., 0], "L").save(tmp_path / "grey.jpg")
    Image.fromarray(colour[..., 0], "L").convert("P").save(tmp_path / "palette.png")
    Image.fromarray(colour[:1, :1, :3]).save(tmp_path / "pixel.png")
    Image.fromarray(colour[:1, :, :3]).save(tmp_path / "line.png")
    Image.fromarray(colour[..., :3]).convert("CMYK").save(tmp_path / "cmyk.jpg")
    cv2.imwrite(str(tmp_path / "deep.png"), colour[..., :3].astype(np.uint16) * 257)
    data = UnlabeledDataModule(
        str(tmp_path),
        batch_size=1,
        num_workers=0,
        global_size=48,
        local_size=32,
        held_out=1,
        map_size=65,
        region_cache=str(tmp_path / "regions"),
    )
    data.prepare_data()
    data.setup("fit")
    names = [name for batch in data.train_dataloader() for name in batch.name]
    assert len(names) == 6


def test_one_image_is_not_enough(tmp_path: Path) -> None:
    Image.new("RGB", (50, 50)).save(tmp_path / "one.png")
    with pytest.raises(InputError, match="There are 1 images"):
        UnlabeledDataModule(str(tmp_path), batch_size=1, held_out=1).setup("fit")


def test_a_broken_image_is_named(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(12):
        Image.new("RGB", (50, 50), (i, i, i)).save(folder / f"{i}.png")
    (folder / "5.png").write_bytes(b"")
    for cache in ("null", "runs/regions"):
        with pytest.raises(SystemExit) as stop:
            command("fit", "pretrain_folder.yaml", f"--data.root={folder}", f"--data.region_cache={cache}")
        assert stop.value.code == 2
        assert "5.png cannot be decoded" in capsys.readouterr().err


class PlainMoCo:
    """MoCo v2's step as its paper writes it, without anything of this project but the two encoders' architecture."""

    def __init__(self, task: GlobalLocalPretraining) -> None:
        self.query, self.key = copy.deepcopy(task.net.query), copy.deepcopy(task.net.key)
        self.queue, self.pointer = task.net.queue.clone(), 0
        self.optimizer = torch.optim.SGD(self.query.parameters(), lr=0.05, momentum=0.9)

    def loss(self, query_view: torch.Tensor, key_view: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One direction: cross-entropy of the own key among the queue's, T = 0.2; and the keys."""
        q = self.query(query_view)
        with torch.no_grad():
            k = self.key(key_view)
        positive = torch.einsum("nc,nc->n", q, k)[:, None]
        negative = torch.einsum("nc,kc->nk", q, self.queue)
        logits = torch.cat([positive, negative], dim=1) / 0.2
        return torch.nn.functional.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long)), k

    def step(self, first: torch.Tensor, second: torch.Tensor) -> float:
        """Both directions in the mean; momentum update before, queue after."""
        with torch.no_grad():
            for k, q in zip(self.key.parameters(), self.query.parameters(), strict=True):
                k.data = k.data * 0.99 + q.data * 0.01
        there, keys_of_second = self.loss(first, second)
        back, keys_of_first = self.loss(second, first)
        loss = (there + back) / 2
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        for key in torch.cat([keys_of_first, keys_of_second]):
            self.queue[self.pointer] = key
            self.pointer = (self.pointer + 1) % len(self.queue)
        return float(loss)


def state(run: str) -> dict[str, torch.Tensor]:
    return torch.load(f"runs/{run}/checkpoints/last.ckpt", weights_only=True)["state_dict"]


def test_accumulated_gradients_are_those_of_the_larger_batch(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.BatchNorm2d, "forward", lambda _, x: x)  # its statistics are those of each part
    same = ["--trainer.max_steps=-1", "--model.queue_size=20", "--model.optimizer=torch.optim.SGD"]
    same += ["--model.optimizer.lr=0.01"]
    command("fit", "demo/pretrain.yaml", "--run=runs/whole", "--data.batch_size=4", *same)
    parts = ["--trainer.accumulate_grad_batches=2", "--trainer.limit_train_batches=4"]
    command("fit", "demo/pretrain.yaml", "--run=runs/parts", "--data.batch_size=2", *parts, *same)
    whole, accumulated = state("whole"), state("parts")
    assert int(whole["net.queue_position"]) == 16
    for key, value in whole.items():
        assert torch.allclose(accumulated[key].float(), value.float(), atol=1e-5), key


class Interrupted(Exception):
    pass


PICTURES = [("unbroken", "000002"), ("resumed", "000002"), ("unbroken", "000000")]


def test_a_resumed_run_goes_on_like_an_unbroken_one(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    two_epochs = ["--trainer.max_epochs=2", "--trainer.max_steps=-1", "--trainer.log_every_n_steps=1"]
    command("fit", "demo/pretrain.yaml", "--run=runs/unbroken", *two_epochs)

    def cut_off(task: GlobalLocalPretraining) -> None:
        if task.current_epoch == 1:
            raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr(GlobalLocalPretraining, "on_train_epoch_start", cut_off)
        with pytest.raises(Interrupted):
            command("fit", "demo/pretrain.yaml", "--run=runs/broken", *two_epochs)
    last = "runs/broken/checkpoints/last.ckpt"
    command("fit", "demo/pretrain.yaml", "--run=runs/resumed", f"--ckpt_path={last}", *two_epochs)
    losses = {run: logged(run)["train/loss"] for run in ("unbroken", "resumed")}
    assert len(losses["unbroken"]) == 4
    assert losses["resumed"] == losses["unbroken"][2:]
    pictures = [Path(f"runs/{run}/pictures/views-{step}.png").read_bytes() for run, step in PICTURES]
    assert pictures[0] == pictures[1] != pictures[2]  # the same images to come, in the second epoch others
    resumed = state("resumed")
    for key, value in state("unbroken").items():
        assert torch.equal(resumed[key], value), key


def test_schedules(command: Command) -> None:
    """Of ten steps at a rate of 1e-9, which trains nothing."""
    rates = {}
    ten_steps = ["--trainer.max_steps=-1", "--trainer.limit_train_batches=10", "--trainer.log_every_n_steps=1"]
    for schedule in ("cosine", "step", "constant"):
        run = f"--run=runs/{schedule}"
        command(
            "fit", "demo/pretrain.yaml", run, *ten_steps, "--model.optimizer.lr=1e-9", f"--model.schedule={schedule}"
        )
        [rates[schedule]] = [value for name, value in logged(schedule).items() if name.startswith("lr-")]
    assert rates["constant"] == pytest.approx([1e-9] * 10)
    assert rates["step"] == pytest.approx([1e-9] * 6 + [1e-10] * 2 + [1e-11] * 2)
    assert rates["cosine"] == pytest.approx([0.5e-9 * (1 + math.cos(math.pi * i / 10)) for i in range(10)])


@pytest.mark.parametrize("setting", ["queue_size=0", "dim=0", "temperature=0", "momentum=2"])
def test_settings_out_of_range_are_refused(command: Command, setting: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        command("fit", "demo/pretrain.yaml", f"--model.{setting}")
    assert stop.value.code == 2
    assert f"model.{setting.replace('=', ' is ')}" in capsys.readouterr().err


def test_a_training_without_known_length_is_refused(command: Command, capsys: pytest.CaptureFixture) -> None:
    endless = ["--trainer.max_epochs=-1", "--trainer.max_steps=-1", "--trainer.max_time=00:00:01:00"]
    with pytest.raises(SystemExit) as stop:
        command("fit", "demo/pretrain.yaml", *endless)
    assert stop.value.code == 2
    assert "its length must be known" in capsys.readouterr().err


def test_what_is_logged_with_accumulated_gradients(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches of 2 a step: the queue of 16 is refilled every second step, and speed is measured over both."""
    readings = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(readings) ** 2)  # no two intervals are equal
    monkeypatch.setattr("qgnet.callbacks.throughput.time", clock)
    settings = ["--trainer.max_steps=-1", "--trainer.limit_train_batches=8", "--trainer.accumulate_grad_batches=2"]
    command(
        "fit", "demo/pretrain.yaml", "--run=runs/x", *settings, "--trainer.log_every_n_steps=1", "--model.queue_size=16"
    )
    metrics = logged()
    assert metrics["train/queue_age"] == [0, 1, 2, 2]
    # Readings: one as a batch begins, one as it ends, one when speed was logged; the first batch starts the clock.
    intervals = [(1, 3, 2), (4, 8, 4), (9, 13, 4), (14, 18, 4)]
    speeds = [images / (end**2 - begin**2) for begin, end, images in intervals]
    assert metrics["train/images_per_second"] == pytest.approx(speeds)


def test_a_job_is_saved_between_steps_not_with_half_of_the_gradients(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[tuple[int, int]] = []

    def signalled_at_once(callback: Requeue, trainer: pl.Trainer, task: GlobalLocalPretraining) -> None:
        callback.signum, callback.signalled = 10, True
        callback.save_and_requeue = lambda *_: saved.append((trainer.global_step, len(task.pending)))

    monkeypatch.setattr(Requeue, "on_train_start", signalled_at_once)
    settings = ["--trainer.max_steps=-1", "--trainer.limit_train_batches=4", "--trainer.accumulate_grad_batches=2"]
    command("fit", "demo/pretrain.yaml", *settings)
    assert saved == [(1, 0)]


def test_a_training_may_log_nothing(command: Command) -> None:
    command("fit", "demo/pretrain.yaml", "--run=runs/x", "--trainer.max_steps=-1", "--trainer.log_every_n_steps=0")
    assert "train/loss" not in logged()


def test_one_image_alone_is_no_collapse(command: Command) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The embeddings have collapsed")
        command("fit", "demo/pretrain.yaml", "--trainer.max_steps=-1", "--data.batch_size=1")


def test_prior_maps_build_their_network_once(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    create = timm.create_model

    def counted(name: str, **options: object) -> torch.nn.Module:
        built.append(name)
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", counted)
    command("fit", "demo/pretrain.yaml", "--run=runs/one", "--trainer.max_steps=-1", "--trainer.max_epochs=1")
    once, built[:] = list(built), []
    settings = ["--trainer.max_steps=-1", "--trainer.max_epochs=3", "--run=runs/x"]
    command("fit", "demo/pretrain.yaml", *settings)
    assert len(logged()["val/prior_ap"]) == 3
    assert len(set(logged()["val/prior_ap"])) > 1  # the weights are those of the moment
    assert built == once
