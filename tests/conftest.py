import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_data import write_coco, write_folder, write_fss, write_images, write_voc

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
if "PYTEST_XDIST_WORKER" in os.environ:  # a core per worker: before anything imports torch
    os.environ["OMP_NUM_THREADS"] = "1"

SLOW = [
    "ablations",
    "caches",
    "checkpoints",
    "class_leaks",
    "dashboards",
    "devices",
    "encoders",
    "export",
    "hard_images",
    "heads",
    "identity",
    "import",
    "jobs",
    "learning",
    "log_progress",
    "mistakes",
    "moved",
    "own_config",
    "page",
    "page_hands",
    "page_objects",
    "page_strokes",
    "page_touch_and_drop",
    "processes",
    "region_maps",
    "released_network",
    "renamed",
    "resume",
    "feature_cache",
    "serve_command",
]
"""Files, ``test_<name>.py``, that `make test` leaves to `make test-all`: they start processes or train for long."""

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
    "--trainer.check_val_every_n_epoch=1",
]
TINY_SEGMENTATION = [
    "--model.encoder=test_resnet",
    "--model.encoder_weights=random",
    "--model.prior_encoder=test_resnet",
    "--model.prior_weights=random",
    "--model.width=8",
    "--model.levels=[1,0.5]",
    "--data.image_size=65",
    "--data.min_class_area=50",
    "--data.episodes=6",
    "--data.batch_size=2",
    "--data.num_workers=0",
    "--data.train_episodes=4",
]
TINY_HEAD = [
    setting
    for setting in TINY_SEGMENTATION
    if not setting.startswith(("--model.prior", "--model.width", "--model.levels"))
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
    "--data.map_size=65",
]
TINY_SCENES = ["--data.scenes=400"]
LIGHTNING = str(Path(sys.executable).parent / "lightning")
EPISODIC = [
    f"--config={CONFIGS / 'demo/qgnet.yaml'}",
    *TINY_TRAINER,
    *TINY_SEGMENTATION,
    *TINY_SCENES,
    "--trainer.max_steps=-1",
]


def start(*arguments: str, **environment: str) -> subprocess.Popen:
    """The real command in a process of its own, on one core."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.Popen([LIGHTNING, *arguments], env=environment, stderr=subprocess.PIPE, text=True)


def succeed(process: subprocess.Popen) -> str:
    _, error = process.communicate(timeout=200)
    assert process.returncode == 0, error[-3000:]
    return error


def train_losses(run: str | Path) -> list[str]:
    """Of each logged step since a run was started or gone on with."""
    with open(f"{run}/metrics.csv") as file:
        return [row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]]


def tiny(config: Path, data: dict[str, Path]) -> list[str]:
    """Arguments that run a shipped YAML on fake data, whose folders ``data`` names by their DataModule."""
    text = config.read_text()
    args = list(TINY_TRAINER)
    kind = text.split("class_path: ")[1].split()[0]
    args += {"GlobalLocalPretraining": TINY_PRETRAINING, "FewShotSegmentation": TINY_SEGMENTATION}.get(kind, TINY_HEAD)
    found = [name for name in data if name in text]
    args += [f"--data.root={data[name]}" for name in found] or TINY_SCENES
    if "training_shots" in text:
        args += ["--model.training_shots=[1]", "--data.shots=1"]
    if found == ["UnlabeledDataModule"]:
        args += ["--data.list_file=null", "--data.mask_root=null", "--data.mask_list=null"]
    if found == ["FolderDataModule"]:
        args += ["--data.novel=[cup]"]
    return args


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem.removeprefix("test_") in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small data set in the layout of each DataModule."""
    from datamodules.prepare.coco_masks import draw_masks  # noqa: PLC0415 (xdist's own process needs no torch)

    root = tmp_path_factory.mktemp("data")
    coco = write_coco(root / "coco")
    for split in ("train2014", "val2014"):
        draw_masks(
            coco / f"annotations/instances_{split}.json",
            coco / "masks/full-crowd-ignore",
            split,
            "full",
            "ignore",
        )
    return {
        "Pascal5iDataModule": write_voc(root / "voc"),
        "Coco20iDataModule": coco,
        "Fss1000DataModule": write_fss(root / "fss"),
        "FolderDataModule": write_folder(root / "folder", binary=True),
        "UnlabeledDataModule": write_images(root / "images"),
    }


@pytest.fixture(scope="session")
def voc(data: dict[str, Path]) -> Path:
    return data["Pascal5iDataModule"]


@pytest.fixture(scope="session")
def images(data: dict[str, Path]) -> Path:
    return data["UnlabeledDataModule"]


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with the shipped configurations in it."""
    shutil.copytree(CONFIGS, tmp_path / "lightning_configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lightning"])
    return tmp_path


@pytest.fixture
def command(workdir: Path, data: dict[str, Path]) -> Command:
    """``command("fit", "pascal5i.yaml", …)`` runs the real command on fake data."""
    from qgnet.cli import main  # noqa: PLC0415

    def run(subcommand: str, config: str, *extra: str) -> None:
        path = workdir / "lightning_configs" / config
        main([subcommand, f"--config=lightning_configs/{config}", *tiny(path, data), *extra])

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
