"""The configurations that come with the package: found by name, listed, copied."""

from pathlib import Path

import pytest
import yaml
from conftest import CONFIGS

from qgnet.cli import main
from qgnet.commands import main as qgnet
from qgnet.config.shipped import find, shipped

NAMES = sorted(file.relative_to(CONFIGS).as_posix() for file in CONFIGS.rglob("*.yaml"))


def settings(capsys: pytest.CaptureFixture, *arguments: str) -> dict:
    with pytest.raises(SystemExit, match="0"):
        main(["fit", *arguments, "--print_config"])
    return yaml.safe_load(capsys.readouterr().out)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_shipped_configuration_is_found_by_its_name(elsewhere: Path, capsys: pytest.CaptureFixture) -> None:
    in_full = settings(capsys, f"--config={CONFIGS / 'heads/hsnet.yaml'}")
    assert in_full["model"]["class_path"].endswith("HSNetSegmentation")
    for name in ("heads/hsnet.yaml", "lightning_configs/heads/hsnet.yaml"):
        assert settings(capsys, "--config", name) == in_full
    on_top = settings(capsys, "--config=pascal5i_small.yaml", "-c", "ablations/as_in_the_paper.yaml")
    assert on_top["model"]["init_args"]["score_maps"] == []
    assert on_top["model"]["init_args"]["high_stage"] == 3


def test_a_users_file_of_the_same_name_comes_first(elsewhere: Path, capsys: pytest.CaptureFixture) -> None:
    own = (CONFIGS / "pascal5i.yaml").read_text().replace("root: data/pascal", "root: mine")
    (elsewhere / "pascal5i.yaml").write_text(own)
    assert settings(capsys, "--config=pascal5i.yaml")["data"]["init_args"]["root"] == "mine"
    assert settings(capsys, "--config=lightning_configs/pascal5i.yaml")["data"]["init_args"]["root"] == "data/pascal"


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("pascal5.yaml", "Did you mean pascal5i.yaml?"),
        ("hsnet.yaml", "Did you mean heads/hsnet.yaml?"),
        ("other/pascal5i.yaml", "Did you mean pascal5i.yaml?"),
        ("zzz.yaml", "Give a YAML file."),
    ],
)
def test_a_name_that_is_none(elsewhere: Path, name: str, advice: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["fit", f"--config={name}"])
    said = capsys.readouterr().err
    assert f"--config is {name}; there is no such file" in said
    assert advice in said
    assert "`qgnet configs` lists" in said


@pytest.mark.parametrize("text", ["model: {class_path: x.yaml}\n", "{data: {fold: 1}}", "configuration", "config.json"])
def test_what_is_no_name_of_a_yaml_file_is_left_to_the_parser(elsewhere: Path, text: str) -> None:
    assert find(text) == text


def test_they_are_listed(capsys: pytest.CaptureFixture) -> None:
    qgnet(["configs"])
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines[: len(NAMES)]) == NAMES == sorted(shipped())
    assert all(len(line.split()) > 3 for line in lines[: len(NAMES)]), "a configuration begins with what it is"
    assert lines[-1] == f"files: {CONFIGS}"
    qgnet(["configs", "matching.yaml"])
    assert capsys.readouterr().out.startswith("matching.yaml  Support matching without training")


def test_they_are_copied(elsewhere: Path, capsys: pytest.CaptureFixture) -> None:
    qgnet(["configs", "pascal5i.yaml", "heads/hsnet.yaml", "--copy=my/own"])
    copied = sorted(path for path in Path("my/own").rglob("*") if path.is_file())
    assert copied == [Path("my/own/heads/hsnet.yaml"), Path("my/own/pascal5i.yaml")]
    assert copied[1].read_text() == (CONFIGS / "pascal5i.yaml").read_text()
    qgnet(["configs", "--copy=all"])
    assert sorted(path.relative_to("all").as_posix() for path in Path("all").rglob("*.yaml")) == NAMES


def test_a_copy_replaces_no_file(elsewhere: Path, capsys: pytest.CaptureFixture) -> None:
    Path("pascal5i.yaml").write_text("mine")
    for arguments in (["configs", "--copy=."], ["configs", "matching.yaml", "pascal5i.yaml", "--copy=."]):
        with pytest.raises(SystemExit, match="2"):
            qgnet(arguments)
        assert "pascal5i.yaml exists. Remove it, or name another folder" in capsys.readouterr().err
    assert [path.name for path in elsewhere.iterdir()] == ["pascal5i.yaml"]
    assert Path("pascal5i.yaml").read_text() == "mine"
    with pytest.raises(SystemExit, match="2"):
        qgnet(["configs", "pascal.yaml"])
    assert "No configuration pascal.yaml comes with qgnet" in capsys.readouterr().err
