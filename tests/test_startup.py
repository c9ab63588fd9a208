import json
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import get_args

import pytest
import torch
from conftest import EPISODIC, TINY_SCENES, TINY_SEGMENTATION, TINY_TRAINER, Command
from PIL import Image
from pytorch_lightning.cli import LightningCLI

import qgnet
import qgnet.cli
from datamodules.datasets.coco20i import COCO_FILES, Year
from datamodules.prepare.choices import Tool
from datamodules.prepare.labels import READERS
from qgnet.commands import COMMANDS
from qgnet.commands import main as qgnet_command
from qgnet.commands.prepare import DATA_SETS
from qgnet.common import versions
from qgnet.config import SUBCOMMANDS
from qgnet.outputs import FORMATS
from qgnet.outputs.formats import WRITERS
from qgnet.start import lightning

NETWORKS = ("torch", "pytorch_lightning", "lightning_fabric", "torchmetrics", "torchvision", "timm", "albumentations")
NETWORKS += ("skimage", "jsonargparse")
HEAVY = (*NETWORKS, "scipy", "cv2", "numpy", "pycocotools")
DOWNLOADING = ("urllib.request", "tarfile", "zipfile", "yaml", "tqdm", "multiprocessing")
LOGGERS = ("wandb", "tensorboard", "torch.utils.tensorboard", "litlogger", "comet_ml", "mlflow")


def entry(name: str) -> tuple[str, str]:
    """Module and function that setup.cfg gives to an installed command."""
    config = ConfigParser()
    config.read(Path(__file__).parent.parent / "setup.cfg")
    lines = config["options.entry_points"]["console_scripts"].split("\n")
    targets = dict(line.replace(" ", "").split("=") for line in lines if line)
    module, _, function = targets[name].partition(":")
    return module, function


def imported(code: str, ends_with: int = 0) -> list[str]:
    """Modules that a new Python has imported after some code, which may end it."""
    script = f"import atexit, sys\natexit.register(lambda: print('MODULES', *sys.modules, file=sys.stderr))\n{code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == ends_with, done.stderr[-2000:]
    return done.stderr.rpartition("MODULES")[2].split()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("qgnet", ["--help"]),
        ("qgnet", ["--version"]),
        *(("qgnet", [name, "--help"]) for name in COMMANDS),
        *(("qgnet", ["prepare", name, "--help"]) for name in DATA_SETS),
        ("qgnet", ["models"]),
        ("lightning", ["--help"]),
        ("lightning", ["--version"]),
    ],
)
def test_what_needs_no_network_imports_none(name: str, arguments: list[str]) -> None:
    module, function = entry(name)
    modules = imported(f"import {module}\n{module}.{function}({arguments})")
    assert "qgnet.start" in modules
    assert not {*HEAVY, *LOGGERS} & {*modules}
    assert arguments[0] != "prepare" or not {*DOWNLOADING} & {*modules}


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "folder", "--root=missing", "--from", "other", "x"],
        ["prepare", "coco20i", "--year=2015"],
        ["segment", "missing", "--out=out"],
        ["segment", "{here}", "--out=out", "--format", "index", "binary"],
        ["segment", "{here}/a.png", "--out=out"],
        ["segment", "{here}/a.png", "--out=out", "--support", "a", "b", "--model=a", "--ckpt=b"],
        ["serve", "missing"],
        ["serve", "{here}", "--model=a", "--ckpt=b"],
        ["export", "--out=out", "--model=a", "--ckpt=b"],
        ["prior-bank", "{here}/a.png", "--prior-checkpoint=a", "--root=b"],
        ["prior-bank", "out", "--prior-checkpoint=a", "--root=b", "--image-size=0"],
        ["report", "{here}"],
    ],
)
def test_a_mistake_in_the_arguments_is_said_before_anything_slow(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    given = [argument.replace("{here}", str(tmp_path)) for argument in arguments]
    modules = imported(f"from qgnet.commands import main\nmain({given})", ends_with=2)
    assert not {*HEAVY} & {*modules}
    assert arguments[0] != "prepare" or not {*DOWNLOADING} & {*modules}


@pytest.mark.parametrize(
    ("kind", "module", "ends_with"),
    [
        ("folder", "FolderDataModule", 0),
        ("pascal5i", "Pascal5iDataModule", 2),  # of other counts than the literature's
        ("coco20i", "Coco20iDataModule", 2),
        ("fss1000", "Fss1000DataModule", 2),
    ],
)
def test_a_data_set_is_prepared_without_torch(
    data: dict[str, Path], kind: str, module: str, ends_with: int, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(data[module], root)
    modules = imported(
        f"from qgnet.commands import main\nmain({['prepare', kind, f'--root={root}', '--check']})", ends_with
    )
    assert "datamodules.files.index" in modules
    assert not {*NETWORKS} & {*modules}


def test_labels_are_converted_without_torch(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    square = {"label": "cat", "points": [[0, 0], [4, 0], [4, 4], [0, 4]]}
    (tmp_path / "a.json").write_text(json.dumps({"imagePath": "a.png", "shapes": [square]}))
    arguments = ["prepare", "folder", f"--root={tmp_path / 'new'}", "--from", "labelme", str(tmp_path)]
    modules = imported(f"from qgnet.commands import main\nmain({arguments})")
    assert (tmp_path / "new/masks/a.png").is_file()
    assert not {*NETWORKS} & {*modules}


def test_what_parsers_offer_is_what_there_is() -> None:
    assert WRITERS.keys() == {name for name, one in FORMATS.items() if one.path}
    (row,) = re.findall(
        r"^\| `--format` \|.*", (Path(__file__).parent.parent / "docs/segment.md").read_text(), re.MULTILINE
    )
    assert [name for name in re.findall("`([a-z]+)`", row) if name in FORMATS] == list(FORMATS)
    assert get_args(Tool) == tuple(READERS)
    assert get_args(Year) == tuple(COCO_FILES)


def test_a_training_runs_without_the_packages_of_loggers(workdir: Path) -> None:
    arguments = ["fit", "--config=lightning_configs/demo/qgnet.yaml", *TINY_TRAINER, *TINY_SEGMENTATION, *TINY_SCENES]
    without = f"import sys\nsys.modules.update(dict.fromkeys({LOGGERS}))"
    modules = imported(f"{without}\nsys.argv[1:] = {arguments}\nfrom qgnet.start import lightning\nlightning()")
    assert "qgnet.loggers.wandb" in modules
    assert not [name for name in modules if name.startswith(("wandb.", "tensorboard."))]
    assert list(Path("runs").rglob("last.ckpt"))


def test_a_subcommand_does_not_import_the_trainers_command() -> None:
    modules = imported("from qgnet.commands import main\nmain(['import-weights', '--help'])")
    assert not {"qgnet.cli", "qgnet.callbacks.episode_figures", "qgnet.loggers.wandb"} & {*modules}


@pytest.mark.parametrize("package", ["wandb", "tensorboard"])
def test_a_logger_without_its_package_says_what_to_install(
    command: Command, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit, match="2"):
        command("fit", "demo/qgnet.yaml", "--run=runs/x", f"--config=lightning_configs/logging/{package}.yaml")
    assert f"pip install {package}" in capsys.readouterr().err
    assert not Path("runs/x").exists()


def test_lightnings_help_lists_its_subcommands(capsys: pytest.CaptureFixture) -> None:
    assert set(SUBCOMMANDS) == set(LightningCLI.subcommands())
    with pytest.raises(SystemExit, match="0"):
        lightning(["--help"])
    printed = capsys.readouterr().out
    assert all(f"\n    {name} " in printed for name in SUBCOMMANDS)
    with pytest.raises(SystemExit, match="2"):
        lightning([])


@pytest.mark.parametrize("main", [lightning, qgnet_command])
def test_version(main, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    printed = capsys.readouterr().out
    lines = dict(line.split(" ", 1) for line in printed.splitlines())
    assert printed.startswith(f"qgnet-lightning {qgnet.__version__}\n")
    assert lines["torch"].startswith(torch.__version__.split("+")[0])
    assert {"python", "torchvision", "pytorch-lightning", "timm", "system", "cpu", "gpu"} <= lines.keys()


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        ("echo 'NVIDIA H200, 570.1, 143771 MiB'; echo", ["NVIDIA H200, 570.1, 143771 MiB"]),
        ("echo; exit 0", []),
        ("echo No devices; exit 9", [f"unknown: Command '{versions.GPUS}' returned non-zero exit status 9."]),
        ("exec sleep 60", [f"unknown: Command '{versions.GPUS}' timed out after 1 seconds"]),
    ],
)
def test_gpus_by_the_drivers_tool(tool: str, expected: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(versions, "SECONDS", 1)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{tool}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert versions.gpus() == expected
    monkeypatch.setattr("importlib.metadata.version", version_of_nothing)
    assert "timm not installed" in versions.versions()


def version_of_nothing(package: str) -> str:
    raise PackageNotFoundError(package)


def test_everything_else_goes_to_lightning(workdir: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="0"):
        lightning(["fit", "--help"])
    assert "--trainer.max_epochs" in capsys.readouterr().out


@pytest.mark.parametrize("package", ["qgnet", "datamodules"])
def test_public_names_are_imported_when_used(package: str) -> None:
    modules = imported(f"import {package}")
    assert not {*HEAVY} & {*modules}
    module = import_module(package)
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name).__name__ == name


def test_data_sets_come_without_lightning() -> None:
    modules = imported("from datamodules import EpisodeDataset, LabelledDataset, Pascal5i")
    assert not {"pytorch_lightning", "lightning_fabric", "torchmetrics"} & {*modules}


def test_the_public_face_of_qgnet() -> None:
    expected = {"FewShotSegmentation", "GlobalLocalPretraining", "QGNet", "EpisodeIoU", "segmentation_loss"}
    assert expected <= set(qgnet.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        qgnet.nothing  # noqa: B018


def test_qgnet_has_the_subcommands_of_lightning(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Another package's script may have taken the name ``lightning``."""
    with pytest.raises(SystemExit, match="0"):
        qgnet_command(["--help"])
    printed = capsys.readouterr().out
    assert all(f"\n    {name}" in printed for name in (*SUBCOMMANDS, *COMMANDS))
    with pytest.raises(SystemExit, match="0"):
        qgnet_command(["test", "--help"])
    printed = capsys.readouterr().out
    assert "usage: qgnet " in printed
    assert "--trainer.max_epochs" in printed
    seen: list[object] = []
    monkeypatch.setattr(qgnet.cli, "run", lambda args, _: seen.append(args))
    for command in (lightning, qgnet_command):
        command(["fit", *EPISODIC])
    assert seen[0] == seen[1] == ["fit", *EPISODIC]
