"""Settings that would do nothing are refused or warned of by name; and how many loader processes there are."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import CONFIGS, Command
from fake_data import write_folder

from datamodules import (
    Coco20iDataModule,
    FolderDataModule,
    Pascal5iDataModule,
    SyntheticDataModule,
    SyntheticViewsDataModule,
    UnlabeledDataModule,
)
from datamodules.base import BaseDataModule
from datamodules.datasets.protocols import Protocol
from datamodules.input_images import InputImagesDataModule
from datamodules.views.dataset import Augmentation
from datamodules.views.regions import PatchRule
from qgnet.commands import main as qgnet
from qgnet.common import pool
from qgnet.common.errors import InputError

USELESS = {
    "data.protocol.coco_folds contiguous": lambda: Pascal5iDataModule(protocol=Protocol(coco_folds="contiguous")),
    "data.protocol.coco_episodes 7": lambda: SyntheticDataModule(protocol=Protocol(coco_episodes=7)),
    "data.protocol.episodes 7": lambda: Coco20iDataModule(protocol=Protocol(episodes=7)),
    "data.episodes 7": lambda: Pascal5iDataModule(episodes=7, episode_file="episodes.jsonl"),
    "data.region_cache maps": lambda: UnlabeledDataModule(regions="grid", region_cache="maps"),
    "data.patches.min_area 0.2": lambda: SyntheticViewsDataModule(regions="random", patches=PatchRule(min_area=0.2)),
    "data.augmentation.hue 0.3": lambda: Augmentation(jitter_probability=0, hue=0.3),
    "data.augmentation.blur_sigma": lambda: Augmentation(blur_probability=0, blur_sigma=(1, 2)),
}
USEFUL = {
    "its own data's": lambda: Coco20iDataModule(protocol=Protocol(coco_folds="contiguous", coco_episodes=7)),
    "as the protocol has it": lambda: Pascal5iDataModule(protocol=Protocol("pfenet").resolved()),
    "of the file": lambda: Pascal5iDataModule(episode_file="episodes.jsonl"),
    "kept maps": lambda: UnlabeledDataModule(region_cache="maps"),
    "no maps": lambda: UnlabeledDataModule(regions="random"),
    "regions": lambda: UnlabeledDataModule(patches=PatchRule(min_area=0.2)),
    "off": lambda: Augmentation(jitter_probability=0, blur_probability=0),
}


@pytest.mark.parametrize("setting", USELESS)
def test_a_setting_that_does_nothing_is_warned_of(setting: str) -> None:
    with pytest.warns(UserWarning, match=f"{setting}.* has no effect"):
        USELESS[setting]()


@pytest.mark.parametrize("case", USEFUL)
def test_a_setting_that_does_something_is_not(case: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        USEFUL[case]()


def test_a_list_without_masks_is_refused() -> None:
    with pytest.raises(InputError, match=r"data.mask_list is val.txt, which measures nothing"):
        UnlabeledDataModule(mask_list="val.txt")


def test_a_suffix_that_no_mask_has_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = write_folder(tmp_path / "own", binary=False)
    with pytest.raises(InputError, match=r"data.mask_suffix .* is _mask, but no mask's name ends in it"):
        FolderDataModule(str(root), mask_suffix="_mask").images("val")
    (root / "masks/001_mask.png").write_bytes((root / "masks/002.png").read_bytes())
    with pytest.raises(InputError, match=r"001(_mask)?\.png and 001(_mask)?\.png are both masks of one image"):
        FolderDataModule(str(root), mask_suffix="_mask").images("val")
    with pytest.raises(SystemExit):
        qgnet(["prepare", "folder", f"--root={tmp_path}/x", "--mask-suffix=_m", "--from", "labelme", str(root)])
    assert "--mask-suffix is of masks of your own" in capsys.readouterr().err


def test_a_saved_configuration_runs_again_without_a_warning(command: Command, voc: Path) -> None:
    settings = [f"--data.root={voc}", "--data.min_class_area=50", "--data.episodes=6"]
    qgnet(["episodes", "e.jsonl", "--config=lightning_configs/pascal5i.yaml", *settings])
    command("test", "pascal5i.yaml", "--data.episodes=null", "--data.episode_file=e.jsonl", "--run=runs/x")
    settings = yaml.safe_load(Path("runs/x/config.yaml").read_text())["data"]["init_args"]
    assert settings["episodes"] is None
    assert settings["num_workers"] == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Pascal5iDataModule(**settings | {"protocol": Protocol(**settings["protocol"])})


MODULES: list[tuple[Callable[..., BaseDataModule], int]] = [
    (Pascal5iDataModule, 4),
    (SyntheticDataModule, 2),
    (SyntheticViewsDataModule, 2),
    (UnlabeledDataModule, 8),
    (lambda **given: InputImagesDataModule({}, 65, **given), 2),
]


@pytest.mark.parametrize("cores", [1, 3, 64])
def test_loader_processes_are_as_many_as_the_machine_has_cores(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores))
    monkeypatch.setattr(pool, "group_folders", list)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch's, of more processes than cores
        for make, most in MODULES:
            made: Any = make()
            assert made.num_workers == min(most, cores)
            torch.utils.data.DataLoader([0], num_workers=made.num_workers)
            assert make(num_workers=5).num_workers == 5


def test_no_shipped_configuration_says_how_many_cores_there_are() -> None:
    assert not [file for file in CONFIGS.rglob("*.yaml") if "num_workers" in file.read_text()]
