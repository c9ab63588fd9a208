import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from fake_data import write_images, write_voc

from qgnet.cli import main

CONFIGS = Path(__file__).parent.parent / "lightning_configs"
Command = Callable[..., None]

# Shrink any shipped configuration to something that runs in seconds, without touching what it is about.
TINY_TRAINER = [
    "--trainer.max_epochs=1",
    "--trainer.max_steps=2",
    "--trainer.limit_train_batches=2",
    "--trainer.limit_val_batches=2",
    "--trainer.limit_test_batches=2",
    "--trainer.limit_predict_batches=2",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.num_sanity_val_steps=0",
]
TINY_SEGMENTATION = [
    "--model.encoder=test_resnet",
    "--model.encoder_weights=random",
    "--model.prior_encoder=test_resnet",
    "--model.prior_checkpoint=random",
    "--model.width=8",
    "--model.levels=[1,0.5]",
    "--data.image_size=65",
    "--data.min_class_area=50",
    "--data.episodes=6",
    "--data.batch_size=2",
    "--data.num_workers=0",
    "--data.train_episodes=4",
]
TINY_PRETRAINING = [
    "--model.encoder=test_resnet",
    "--model.encoder_weights=random",
    "--model.queue_size=8",
    "--data.batch_size=2",
    "--data.num_workers=0",
    "--data.global_size=48",
    "--data.local_size=32",
    "--data.held_out=4",
    "--data.region_cache=null",
]
TINY_SCENES = ["--data.scenes=200"]


def tiny(config: Path, voc: Path, images: Path) -> list[str]:
    """Arguments that run a shipped YAML on fake data."""
    text = config.read_text()
    args = list(TINY_TRAINER)
    args += TINY_PRETRAINING if "GlobalLocalPretraining" in text else TINY_SEGMENTATION
    if "Pascal5iDataModule" in text:
        args += [f"--data.root={voc}"]
    elif "UnlabeledDataModule" in text:
        args += [f"--data.root={images}", "--data.list_file=null"]
    else:
        args += TINY_SCENES
    return args


@pytest.fixture(scope="session")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_voc(tmp_path_factory.mktemp("voc") / "data")


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "data")


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with the shipped configurations in it."""
    shutil.copytree(CONFIGS, tmp_path / "lightning_configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lightning"])
    return tmp_path


@pytest.fixture
def command(workdir: Path, voc: Path, images: Path) -> Command:
    """``command("fit", "pascal5i.yaml", …)`` runs the real command on fake data."""

    def run(subcommand: str, config: str, *extra: str) -> None:
        path = workdir / "lightning_configs" / config
        main([subcommand, f"--config=lightning_configs/{config}", *tiny(path, voc, images), *extra])

    return run


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photographs that QGNET_TEST_DATA names."""
    folder = os.environ.get("QGNET_TEST_DATA")
    if not folder:
        pytest.skip("QGNET_TEST_DATA is not set: no real photographs to test on")
    path = Path(folder)
    assert (path / "voc20").is_dir(), f"QGNET_TEST_DATA is {path}, which has no voc20/"
    return path
