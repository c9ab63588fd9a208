import json
from pathlib import Path

import pytest

from qgnet.callbacks.results import EVERYTHING, THRESHOLDS, guided
from qgnet.commands import main


def write_result(folder: Path, shots: int, miou: float) -> None:
    def score(value: float) -> dict:
        return {"miou": value, "fb_iou": value / 2, "class_iou": {"cat": value, "unseen": None}}

    scores = {"QGNet": score(miou), EVERYTHING: score(0.1)} | {
        guided(t): score(0.2 + (t == 0.7) / 10) for t in THRESHOLDS
    }
    folder.mkdir(parents=True)
    result = {"data": "Data", "fold": 1, "shots": shots, "seed": 5, "episodes": 9, "scores": scores}
    (folder / "results.json").write_text(json.dumps(result))


def test_one_block_per_test_with_the_best_threshold(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_result(tmp_path / "b", 5, 0.625)
    write_result(tmp_path / "a/deep", 1, 0.5)
    main(["report", str(tmp_path)])
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.split()}
    assert lines["QGNet"] == ["guided", ">", "0.7", "everything", "QGNet", "guided", ">", "0.7", "everything"]
    assert lines["mIoU"] == ["50.0", "30.0", "10.0", "62.5", "30.0", "10.0"]
    assert lines["FB-IoU"] == ["25.0", "15.0", "5.0", "31.2", "15.0", "5.0"]
    assert lines["unseen"] == ["-"] * 6


@pytest.mark.parametrize(("exists", "message"), [(True, "No results.json under"), (False, "does not exist")])
def test_nothing_to_report(tmp_path: Path, capsys: pytest.CaptureFixture, exists: bool, message: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["report", str(tmp_path if exists else tmp_path / "none")])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
