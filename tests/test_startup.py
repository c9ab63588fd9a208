import subprocess
import sys
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import pytest
from conftest import TINY_SCENES, TINY_SEGMENTATION, TINY_TRAINER, Command
from pytorch_lightning.cli import LightningCLI

import qgnet
from qgnet.commands import main as qgnet_command
from qgnet.start import SUBCOMMANDS, lightning

HEAVY = ("torch", "pytorch_lightning", "lightning_fabric", "torchmetrics", "torchvision", "timm", "albumentations")
HEAVY += ("skimage", "scipy", "cv2", "numpy", "pycocotools", "jsonargparse")
LOGGERS = ("wandb", "tensorboard", "torch.utils.tensorboard", "litlogger", "comet_ml", "mlflow")


def entry(name: str) -> tuple[str, str]:
    """Module and function that setup.cfg gives to an installed command."""
    config = ConfigParser()
    config.read(Path(__file__).parent.parent / "setup.cfg")
    lines = config["options.entry_points"]["console_scripts"].split("\n")
    targets = dict(line.replace(" ", "").split("=") for line in lines if line)
    module, _, function = targets[name].partition(":")
    return module, function


def imported(code: str) -> list[str]:
    """Modules that a new Python has imported after some code, which may end it."""
    script = f"import atexit, sys\natexit.register(lambda: print('MODULES', *sys.modules, file=sys.stderr))\n{code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr.rpartition("MODULES")[2].split()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("qgnet", ["--help"]),
        ("qgnet", ["--version"]),
        ("qgnet", ["report", "--help"]),
        ("qgnet", ["models", "--help"]),
        ("qgnet", ["regions", "--help"]),
        ("qgnet", ["episodes", "--help"]),
        ("qgnet", ["import-weights", "--help"]),
        ("lightning", ["--help"]),
        ("lightning", ["--version"]),
    ],
)
def test_what_needs_no_network_imports_none(name: str, arguments: list[str]) -> None:
    module, function = entry(name)
    modules = imported(f"import {module}\n{module}.{function}({arguments})")
    assert "qgnet.start" in modules
    assert not {*HEAVY, *LOGGERS} & {*modules}


def test_a_training_runs_without_the_packages_of_loggers(workdir: Path) -> None:
    arguments = ["fit", "--config=lightning_configs/demo/qgnet.yaml", *TINY_TRAINER, *TINY_SEGMENTATION, *TINY_SCENES]
    without = f"import sys\nsys.modules.update(dict.fromkeys({LOGGERS}))"
    modules = imported(f"{without}\nsys.argv[1:] = {arguments}\nfrom qgnet.start import lightning\nlightning()")
    assert "qgnet.loggers.wandb" in modules
    assert not [name for name in modules if name.startswith(("wandb.", "tensorboard."))]
    assert list(Path("runs").rglob("last.ckpt"))


def test_a_subcommand_does_not_import_the_trainers_command() -> None:
    modules = imported("from qgnet.commands import main\nmain(['import-weights', '--help'])")
    assert not {"qgnet.cli", "qgnet.callbacks.pictures", "qgnet.loggers.wandb"} & {*modules}


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
    assert capsys.readouterr().out.split()[-1] == qgnet.__version__


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


def test_the_public_face_of_qgnet() -> None:
    expected = {"FewShotSegmentation", "GlobalLocalPretraining", "QGNet", "EpisodeIoU", "segmentation_loss"}
    assert expected <= set(qgnet.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        qgnet.nothing  # noqa: B018
