import csv
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import Command
from PIL import Image

from datamodules import InputError, UnlabeledDataModule
from qgnet.tasks.pretraining import GlobalLocalPretraining

RUN = Path("runs/x")


def logged() -> dict[str, list[float]]:
    columns: dict[str, list[float]] = {}
    with open(RUN / "metrics.csv") as file:
        for row in csv.DictReader(file):
            for key, value in row.items():
                if value:
                    columns.setdefault(key, []).append(float(value))
    return columns


def test_a_run_can_be_watched(command: Command) -> None:
    command("fit", "demo/pretrain.yaml", "--run=runs/x", "--trainer.log_every_n_steps=1", "--trainer.max_steps=-1")
    metrics = logged()
    for name in ("loss", "global_global", "local_global", "local_local", "accuracy", "spread", "fallback_share"):
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
