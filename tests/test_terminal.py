import re
import subprocess
from pathlib import Path

import pytest
from conftest import EPISODIC, LIGHTNING, Command
from lightning_utilities.core.rank_zero import rank_zero_only

from qgnet.common.terminal import warn

NO_BAR = "--trainer.enable_progress_bar=false"
CHECKPOINT = "runs/x/checkpoints/last.ckpt"


def real(*arguments: str) -> list[str]:
    """Lines that a run in a process of its own shows on the terminal, without progress bars."""
    done = subprocess.run([LIGHTNING, *arguments], capture_output=True, text=True, check=True, timeout=200)
    text = done.stdout + done.stderr
    return [line for line in re.split(r"[\r\n]+", text) if line.strip() and "/s]" not in line and "Reading" not in line]


def test_a_training_and_a_test_show_our_own_lines_only(workdir: Path) -> None:
    parameters = re.compile(r"Trains [\d,]+ of [\d,]+ parameters")
    fit = real("fit", *EPISODIC, NO_BAR, "--run=runs/x")
    assert fit[:2] == [
        "fit: FewShotSegmentation on SyntheticDataModule, fold 0, 1-shot, seed 321, cpu",
        "Files: runs/x",
    ]
    assert parameters.fullmatch(fit[2])
    assert fit[3] == "Trained 2 steps"
    assert re.fullmatch(r"val/miou 0(\.\d+)?, val/fb_iou 0(\.\d+)?(, val/\w+ [\d.e+-]+)*", fit[4])
    assert fit[5:] == ["Checkpoint: runs/x/checkpoints/best.ckpt", "Checkpoint: runs/x/checkpoints/last.ckpt"]
    test = real("test", *EPISODIC, NO_BAR, f"--ckpt_path={CHECKPOINT}", "--run=runs/t")
    assert test[0].startswith("test: FewShotSegmentation on SyntheticDataModule")
    assert test[1:4] == [f"Weights: {CHECKPOINT}", "Files: runs/t", "Results: runs/t/results.json"]
    assert re.fullmatch(r"test/miou 0(\.\d+)?, test/fb_iou 0(\.\d+)?(, test/\w+ [\d.e+-]+)*", test[4])
    assert len(test) == 5
    loud = real("test", *EPISODIC, NO_BAR, f"--ckpt_path={CHECKPOINT}", "--run=runs/v", "-v")
    assert {line.split(":")[0] for line in test} < {line.split(":")[0] for line in loud}
    assert any("Loaded model weights" in line for line in loud)


def test_a_warning_of_ours_is_shown(command: Command, recwarn: pytest.WarningsRecorder) -> None:
    command("fit", "demo/pretrain.yaml", "--run=runs/x", "--model.queue_size=100000")
    assert any("Take a smaller queue" in str(one.message) for one in recwarn)
    assert not any("logging interval" in str(one.message) for one in recwarn)


def test_predict_says_where_its_masks_are(command: Command, capsys: pytest.CaptureFixture) -> None:
    command("fit", "demo/qgnet.yaml", "--run=runs/x")
    capsys.readouterr()
    command("predict", "demo/qgnet.yaml", f"--ckpt_path={CHECKPOINT}", "--run=runs/p")
    assert "Masks: runs/p/predictions" in capsys.readouterr().out


@pytest.mark.parametrize(("rank", "warnings"), [("0", 1), ("1", 0)])
def test_without_lightning_the_first_process_of_torchrun_warns(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder, rank: str, warnings: int
) -> None:
    monkeypatch.delattr(rank_zero_only, "rank", raising=False)
    monkeypatch.setenv("RANK", rank)
    warn("once")
    assert len(recwarn) == warnings
