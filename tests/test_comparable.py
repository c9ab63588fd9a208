"""Only results of the same test stand in one table."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Command
from fake_data import write_coco, write_folder, write_fss, write_voc

from datamodules import Coco20iDataModule, FolderDataModule, Fss1000DataModule, Pascal5iDataModule, SyntheticDataModule
from datamodules.datasets.protocols import Protocol
from datamodules.episodes.manifest import NamedDraw, write_manifest
from datamodules.episodic import EpisodeDataModule
from datamodules.prepare.coco_masks import draw_masks
from qgnet.commands import main as qgnet
from qgnet.runs.conditions import Setting, conditions

SMALL = {"image_size": 65, "min_class_area": 50, "episodes": 6, "num_workers": 0}


def setting(module: type[EpisodeDataModule], root: Path, **settings: Any) -> Setting:
    data = module(str(root), **(SMALL | settings))  # type: ignore[arg-type]
    data.setup("test")
    return Setting.of(json.loads(json.dumps(conditions(data, 6, settings.get("trained", [])))))


def test_pascal(voc: Path, tmp_path: Path) -> None:
    first = setting(Pascal5iDataModule, voc)
    elsewhere = tmp_path / "copy"
    shutil.copytree(voc, elsewhere)
    for same in ({"fold": 2}, {"seed": 7}, {"negative": 0.5}, {"inverted": 0.5}, {"scale": (0.5, 2.0)}):
        assert setting(Pascal5iDataModule, elsewhere, **same) == first
    fewer = write_voc(tmp_path / "fewer", per_class=5)
    others = [
        setting(Pascal5iDataModule, voc, val_list="train"),
        setting(Pascal5iDataModule, fewer),
        setting(Pascal5iDataModule, voc, protocol=Protocol("hsnet")),
        setting(Pascal5iDataModule, voc, shots=2),
        setting(Pascal5iDataModule, voc, image_size=57),
        setting(Pascal5iDataModule, voc, min_class_area=60),
    ]
    assert len({first, *others}) == 7


def test_manifests_are_told_apart_by_content(voc: Path, tmp_path: Path) -> None:
    drawn = [NamedDraw(1, "val_000", ("val_020",)), NamedDraw(1, "val_020", ("val_000",))]
    for name, draws in (("a", drawn), ("b", drawn[:1]), ("copy", drawn)):
        write_manifest(tmp_path / name, draws)
    a, b, copy = (setting(Pascal5iDataModule, voc, episode_file=str(tmp_path / name)) for name in ("a", "b", "copy"))
    assert a == copy
    assert len({a, b, setting(Pascal5iDataModule, voc)}) == 3


def test_coco(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "coco", per_class=2)
    modes = [("full", "ignore"), ("first-polygon", "ignore"), ("full", "background")]
    for parts, crowds in modes:
        draw_masks(
            root / "annotations/instances_val2014.json",
            root / f"masks/{parts}-crowd-{crowds}",
            "val2014",
            parts,  # type: ignore[arg-type]
            crowds,  # type: ignore[arg-type]
        )
    found = {setting(Coco20iDataModule, root, parts=parts, crowds=crowds) for parts, crowds in modes}
    found.add(setting(Coco20iDataModule, root, protocol=Protocol(coco_folds="contiguous")))
    assert len(found) == 4
    for folder in (root, root / "masks/full-crowd-ignore"):
        (folder / "val2014").rename(folder / "val2017")
    (root / "masks/full-crowd-ignore/val2014.txt").rename(root / "masks/full-crowd-ignore/val2017.txt")
    assert setting(Coco20iDataModule, root, year=2017) not in found


def test_fss_and_folders(tmp_path: Path) -> None:
    fss = write_fss(tmp_path / "fss")
    assert setting(Fss1000DataModule, fss) != setting(Fss1000DataModule, fss, evaluate="val")
    binary, numbered = (write_folder(tmp_path / str(kind), binary=kind) for kind in (True, False))
    cup = setting(FolderDataModule, binary, novel=["cup"])
    assert "novel cup" in cup.choices
    assert cup == setting(FolderDataModule, numbered, novel=["cup"])
    assert cup != setting(FolderDataModule, binary, novel=["boot"])


def test_scenes_differ_by_seed_but_not_their_test() -> None:
    def made(**settings: Any) -> Setting:
        data = SyntheticDataModule(**(SMALL | {"scenes": 200} | settings))
        data.setup("test")
        return Setting.of(conditions(data, 6, None))

    assert made() == made(seed=5) == made(fold=3)
    assert made() != made(scenes=220)


def test_reports_keep_other_novel_classes_apart(command: Command, capsys: pytest.CaptureFixture) -> None:
    for novel in ("cup", "boot"):
        command("test", "folder.yaml", f"--data.novel=[{novel}]", f"--run=runs/{novel}")
    result = json.loads(Path("runs/cup/results.json").read_text())
    assert result["classes"] == [["cup"]]
    assert len(result["images"]["sha256"]) == 64
    capsys.readouterr()
    qgnet(["report", "runs"])
    printed = capsys.readouterr().out
    qgnet(["report", "--classes", "runs"])
    printed += capsys.readouterr().out
    assert printed.count(", novel cup\n") == printed.count(", novel boot\n") == 2
