"""Values of ``qgnet segment``'s options that cannot be meant, and runs that would wait for nobody."""

import pytest
from conftest import EPISODIC
from test_segment import folder, refused, segment  # noqa: F401

from qgnet.cli import main as lightning


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--devices", "-1"], "--devices is -1; expected how many, from 1 on, or `auto`"),
        (["--devices", "x"], "--devices is x; expected how many"),
        (["--devices", "0"], "--devices is 0; expected how many"),
        (["--devices", "1.5"], "--devices is 1.5; expected how many"),
        (["--devices", "0,1"], "--accelerator cpu with --devices 0,1 and --nodes 1 cannot be had on this machine"),
        (["--accelerator", "tpu"], "--accelerator tpu with --devices auto and --nodes 1 cannot be had on this machine"),
        (["--accelerator", "cuda"], "--accelerator cuda with --devices auto and --nodes 1 cannot be had"),
        (["--accelerator", "abacus"], "--accelerator abacus with --devices auto"),
        (["--nodes", "0"], "--nodes is 0; expected at least 1"),
        (["--nodes", "2"], "--nodes is 2, but nothing says where the other machines are"),
        (["--batch-size", "0"], "--batch-size is 0; expected 1 … 1024"),
        (["--batch-size", "1000000000"], "--batch-size is 1000000000; expected 1 … 1024"),
        (["--workers", "-1"], "--workers is -1; expected 0 … 256"),
        (["--image-size", "8000001"], "The image size is 8000001; expected a whole number of pixels, 1 … 4097."),
        (["--image-size", "0"], "The image size is 0; expected a whole number of pixels"),
        (["--image-size", "-7"], "The image size is -7; expected a whole number of pixels"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_values_that_cannot_be_meant(capsys: pytest.CaptureFixture, arguments: list[str], message: str) -> None:
    said = refused(capsys, *arguments)
    assert message in said
    assert "--trainer" not in said


def test_several_machines_without_a_launcher(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stop:
        lightning(["fit", *EPISODIC, "--trainer.num_nodes=2", "--trainer.devices=1", f"--run={tmp_path}/run"])
    assert stop.value.code == 2
    assert "--trainer.num_nodes is 2, but nothing says where the other machines are" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_what_is_said_where_the_score_is_not_calibrated(capsys: pytest.CaptureFixture) -> None:
    segment("--presence", "0.7")
    assert "Nothing is left empty by its score: the score is not calibrated for this model." in capsys.readouterr().out
    segment()
    assert "calibrated" not in capsys.readouterr().out
