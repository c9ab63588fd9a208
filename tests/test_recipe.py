"""The paper's recipe, as METHOD tells it, in the two shipped experiments."""

import pytest
import pytorch_lightning as pl
import torch
import yaml
from conftest import CONFIGS

from datamodules.episodes.transforms import CROP_DRAWS, KEPT_FOREGROUND, MEAN_COLOUR, TrainAugmentation
from qgnet.cli import parse
from qgnet.networks.encoders import IMAGENET

PASCAL = {"lr": 0.0025, "side": 473, "batch": 4, "epochs": 200, "scale": (0.9, 1.1), "levels": [60, 30, 15, 8]}
COCO = {"lr": 0.02, "side": 641, "batch": 8, "epochs": 50, "scale": (0.8, 1.25), "levels": [1, 0.5, 0.25, 0.125]}
SCHEDULE_FACTOR = 10
"""The released schedule multiplies every group's rate by it."""


@pytest.mark.parametrize(
    ("name", "paper", "encoder"), [("pascal5i", PASCAL, "resnet50s"), ("coco20i", COCO, "resnet101s")]
)
def test_the_papers_recipe(name: str, paper: dict, encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["lightning"])
    task, data = parse([f"--config={CONFIGS / name}.yaml"])
    assert task.hparams.encoder == encoder
    assert task.hparams.prior_encoder == "resnet50"
    assert task.hparams.freeze_encoder
    assert (task.auxiliary_weight, task.foreground_weight) == (1.0, 1.0)
    assert (task.hparams.width, list(task.hparams.levels)) == (256, paper["levels"])
    assert (data.image_size, data.batch_size, data.scale) == (paper["side"], paper["batch"], paper["scale"])
    assert (data.shots, data.seed, data.min_class_area) == (1, 321, 2 * 32 * 32)
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert config["trainer"]["max_epochs"] == paper["epochs"]

    steps = 50
    task.trainer = pl.Trainer(max_epochs=-1, max_steps=steps, logger=False, enable_checkpointing=False)
    made = task.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert made["lr_scheduler"]["interval"] == "step"
    assert isinstance(optimizer, torch.optim.SGD)
    (group,) = optimizer.param_groups
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.9, 1e-4, False)
    trained = {id(p) for p in group["params"]}
    frozen = {id(p) for e in (task.net.encoder, task.net.prior_encoder) for p in e.parameters()}
    assert not trained & frozen
    assert len(trained) + len(frozen) == len(list(task.parameters()))
    for step in range(steps):
        assert group["lr"] == pytest.approx(SCHEDULE_FACTOR * paper["lr"] * (1 - step / steps) ** 0.9)
        optimizer.step()
        schedule.step()


def test_the_augmentations_ranges() -> None:
    augment = TrainAugmentation(473)
    assert augment.rotation == 10
    assert (KEPT_FOREGROUND, CROP_DRAWS) == (0.85, 30)
    assert IMAGENET == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert tuple(round(255 * mean) for mean in IMAGENET[0]) == MEAN_COLOUR
