"""YAML files before and after the subcommand; those that contain themselves, go too deep or hold something else."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import EPISODIC, Command
from fake_data import write_folder

from datamodules import FolderDataModule
from qgnet.cli import main
from qgnet.common.errors import InputError
from qgnet.common.text import read_yaml
from qgnet.inference.models import open_model
from qgnet.runs.folders import training_of

LAUGHS = "\n".join(["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)])
STRANGE = {
    "list of itself": "&a [*a]",
    "mapping of itself": "1: cat\n2: &a {b: {c: *a}}",
    "itself": "&a\n1: cat\n2: *a",
    "key of itself": "? &a [*a]\n: cat",
    "merged into itself": "&a\n1: cat\n<<: *a",
    "deep": "[" * 5000,
    "deep mapping": "{1: " * 5000,
    "laughs": f"? &z [{'x, ' * 9}x]\n: cat\n{LAUGHS}",
    "endless number": f"{'9' * 5000}: cat",
}


@pytest.mark.parametrize("kind", STRANGE)
def test_classes(tmp_path: Path, kind: str) -> None:
    root = write_folder(tmp_path / "own", binary=False)
    (root / "classes.yaml").write_text(STRANGE[kind])
    with pytest.raises(InputError, match=r"classes\.yaml is not `number: name` lines"):
        FolderDataModule(str(root)).setup("test")


@pytest.mark.parametrize("kind", sorted(set(STRANGE) - {"laughs", "endless number", "key of itself"}))
def test_configurations(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(STRANGE[kind])
    with pytest.raises(InputError, match=r"a\.yaml cannot be read as YAML"):
        read_yaml(file)


def test_what_is_named_several_times_is_not_itself(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a: &a [1, 2]\nb: *a\nc: {d: *a, e: &f {g: 1}, h: *f}\n")
    assert read_yaml(file) == {"a": [1, 2], "b": [1, 2], "c": {"d": [1, 2], "e": {"g": 1}, "h": {"g": 1}}}


@pytest.mark.parametrize("text", ["&a [*a]", "data: 7", "- data", "data: {init_args: [1]}", "", "data: \xff"])
def test_the_configuration_beside_a_checkpoint(command: Command, text: str, tmp_path: Path) -> None:
    import torch  # noqa: PLC0415

    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"config\.yaml"):
        training_of(run)
    torch.save({"state_dict": {}, "hyper_parameters": {}}, run / "checkpoints/last.ckpt")
    with pytest.raises(InputError):
        open_model(run / "checkpoints/last.ckpt")


@pytest.mark.parametrize("number", [0, 256, 300])
def test_class_numbers_that_no_mask_holds(tmp_path: Path, number: int) -> None:
    root = write_folder(tmp_path / "own", binary=False)
    (root / "classes.yaml").write_text(f"1: apple\n2: boot\n3: cup\n4: drum\n{number}: egg\n")
    with pytest.raises(InputError, match=rf"class numbers .*{number}.*from 1 to 254.*masks/<class>/<name>\.png"):
        FolderDataModule(str(root)).setup("test")


@pytest.mark.parametrize("number", [255, 254])
def test_the_last_class_number_is_254(tmp_path: Path, number: int) -> None:
    root = write_folder(tmp_path / "own", binary=False)
    (root / "classes.yaml").write_text(f"1: apple\n2: boot\n3: cup\n4: drum\n{number}: egg\n")
    data = FolderDataModule(str(root))
    if number == 255:
        with pytest.raises(InputError, match="or 255 alone"):
            data.setup("test")
    else:
        assert data.class_names[254] == "egg"


def test_a_configuration_before_the_subcommand(workdir: Path, capsys: pytest.CaptureFixture) -> None:
    """One file of all subcommands, as Lightning's own command takes it, or one of settings, with others on top."""

    def settings(*arguments: str) -> dict[str, Any]:
        with pytest.raises(SystemExit, match="0"):
            main([*arguments, "--print_config"])
        printed: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
        return printed

    plain = "lightning_configs/demo/qgnet.yaml"
    demo = yaml.safe_load(Path(plain).read_text())
    Path("all.yaml").write_text(yaml.safe_dump({"fit": demo, "test": {**demo, "trainer": {"max_time": "00:00:07:00"}}}))
    fit, test = (settings(name, f"--config={plain}") for name in ("fit", "test"))
    for before in (["--config", "all.yaml"], ["-c", plain], [f"--config={plain}", "--config", "all.yaml"]):
        assert settings(*before, "fit") == fit
        assert settings(*before, "fit", "--data.shots=5") == settings("fit", f"--config={plain}", "--data.shots=5")
    assert settings("--config=all.yaml", "test")["trainer"]["max_time"] == "00:00:07:00"
    assert test["trainer"]["max_time"] is None
    for alone in (["--config", "all.yaml"], ["--config"], ["--config=all.yaml", "fits"]):
        with pytest.raises(SystemExit, match="2"):
            main(alone)
        assert "is no subcommand. Expected one of fit, validate, test, predict." in capsys.readouterr().err


def test_a_training_by_a_configuration_before_the_subcommand(workdir: Path) -> None:
    config, *settings = EPISODIC
    main([config, "fit", *settings, "--trainer.max_steps=1", "--run=runs/x"])
    assert Path("runs/x/checkpoints/last.ckpt").is_file()
