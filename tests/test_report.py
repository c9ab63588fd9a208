import csv
import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from datamodules.datasets.protocols import Protocol
from qgnet.commands import main
from qgnet.runs.results import EVERYTHING, THRESHOLDS, guided


def write_result(folder: Path, miou: float, fold: int = 1, seed: int = 5, experiment: str = "exp", **other) -> Path:
    def score(value: float) -> dict:
        return {"miou": value, "fb_iou": value / 2, "class_iou": {"cat": value, "unseen": None}}

    scores = {"QGNet": score(miou), EVERYTHING: score(0.1)} | {
        guided(t): score(0.2 + (t == 0.7) / 10) for t in THRESHOLDS
    }
    result = {
        "trained": {"experiment": experiment, "seed": seed, "data_seed": seed, "shots": 1},
        "checkpoint": f"runs/{experiment}/fold{fold}/checkpoints/last.ckpt",
        "data": "Data",
        "fold": fold,
        "folds": 4,
        "shots": 1,
        "seed": seed,
        "episodes": 9,
        "episode_file": None,
        "protocol": asdict(Protocol().resolved()),
        "image_size": 473,
        "min_class_area": 2048,
        "scores": scores,
    }
    folder.mkdir(parents=True)
    file = folder / "results.json"
    file.write_text(json.dumps(result | other))
    return file


def rows(printed: str, name: str) -> list[list[str]]:
    return [line.split() for line in printed.splitlines() if line.startswith(f"{name} ")]


def test_classes_have_one_block_per_test_with_the_best_threshold(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_result(tmp_path / "b", 0.625, shots=5)
    write_result(tmp_path / "a/deep", 0.5)
    main(["report", "--classes", str(tmp_path)])
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.split()}
    assert lines["QGNet"] == ["guided", ">", "0.7", "everything", "QGNet", "guided", ">", "0.7", "everything"]
    assert lines["mIoU"] == ["50.0", "30.0", "10.0", "62.5", "30.0", "10.0"]
    assert lines["FB-IoU"] == ["25.0", "15.0", "5.0", "31.2", "15.0", "5.0"]
    assert lines["unseen"] == ["-"] * 6


def test_folds_mean_and_deviation_over_seeds(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    scores = {5: (0.1, 0.2, 0.3, 0.4), 6: (0.2, 0.3, 0.4, 0.7)}
    for seed, mious in scores.items():
        for fold, miou in enumerate(mious):
            write_result(tmp_path / f"{seed}-{fold}", miou, fold, seed)
    table, text = tmp_path / "out/table.csv", tmp_path / "table.md"
    main(["report", str(tmp_path), "--csv", str(table), "--markdown", str(text)])
    printed = capsys.readouterr().out
    cells = "exp | 1-shot | last | 2 | 15.0 ± 7.1 | 25.0 ± 7.1 | 35.0 ± 7.1 | 55.0 ± 21.2 | 32.5 ± 10.6 | 16.2 ± 5.3"
    assert rows(printed, "exp") == [cells.replace(" |", "").split()]
    assert f"| {cells} |" in text.read_text().splitlines()
    assert "Data, 1-shot, protocol qgnet, 9 episodes, 473 px" in printed
    records = list(csv.DictReader(table.open()))
    assert [r["fold"] for r in records] == ["0", "1", "2", "3", "mean"]
    mean = records[-1]
    assert (mean["experiment"], mean["seeds"], mean["complete"]) == ("exp", "2", "True")
    assert float(mean["miou"]) == pytest.approx(0.325)
    assert float(mean["miou_std"]) == pytest.approx(0.15 / 2**0.5)
    assert float(mean["fb_iou"]) == pytest.approx(0.1625)


def test_one_seed_has_no_deviation(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_result(tmp_path / "a", 0.5, folds=1, fold=0)
    main(["report", str(tmp_path), "--csv", str(tmp_path / "t.csv")])
    assert rows(capsys.readouterr().out, "exp") == [["exp", "1-shot", "last", "1", "50.0", "50.0", "25.0"]]
    assert {r["miou_std"] for r in csv.DictReader((tmp_path / "t.csv").open())} == {""}


def test_what_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for fold, seed in ((1, 5), (2, 5), (1, 6)):
        write_result(tmp_path / f"{fold}-{seed}", 0.1 * fold + 0.01 * seed, fold, seed)
    main(["report", str(tmp_path)])
    printed = capsys.readouterr().out
    assert " ".join(rows(printed, "exp")[0]) == "exp 1-shot last 1 - 15.5 ± 0.7 25.0 - 20.0* 10.0*"
    assert "* exp, last: without fold 0, 3\n" in printed
    assert "* exp, last: seed 6 has no fold 2, and is not in the mean\n" in printed


@pytest.mark.parametrize(
    "other",
    [
        {"image_size": 641},
        {"episodes": 10},
        {"min_class_area": 0},
        {"shots": 5},
        {"data": "Other"},
        {"episode_file": "episodes.jsonl"},
        {"protocol": asdict(Protocol(name="hsnet").resolved())},
        {"protocol": asdict(Protocol(resize="squash").resolved())},
    ],
)
def test_different_tests_are_never_averaged(tmp_path: Path, capsys: pytest.CaptureFixture, other: dict) -> None:
    write_result(tmp_path / "a", 0.25, fold=1)
    write_result(tmp_path / "b", 0.75, fold=2, **other)
    main(["report", str(tmp_path)])
    printed = capsys.readouterr().out
    assert sorted(row[4:] for row in rows(printed, "exp")) == [
        ["-", "-", "75.0", "-", "75.0*", "37.5*"],
        ["-", "25.0", "-", "-", "25.0*", "12.5*"],
    ]
    titles = [line for line in printed.splitlines() if "-shot, protocol" in line]
    assert len(set(titles)) == 2


def test_experiments_checkpoints_and_training_shots_are_rows(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_result(tmp_path / "a", 0.1)
    write_result(tmp_path / "b", 0.2, experiment="exp-without_self")
    write_result(tmp_path / "c", 0.3, checkpoint="runs/exp/fold1/checkpoints/best.ckpt")
    write_result(tmp_path / "d", 0.4, trained={"experiment": "exp", "seed": 5, "data_seed": 5, "shots": 5})
    write_result(
        tmp_path / "e", 0.5, trained={"experiment": "imported", "seed": None, "data_seed": None, "shots": None}
    )
    main(["report", str(tmp_path)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "0.0*" in line]
    assert [(line[0], line[1], line[2], line[5]) for line in lines] == [
        ("exp", "1-shot", "best", "30.0"),
        ("exp", "1-shot", "last", "10.0"),
        ("exp", "5-shot", "last", "40.0"),
        ("exp-without_self", "1-shot", "last", "20.0"),
        ("imported", "-", "last", "50.0"),
    ]


def test_of_the_same_test_the_newest_counts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    new = write_result(tmp_path / "a", 0.75)
    old = write_result(tmp_path / "b", 0.5)
    os.utime(old, (new.stat().st_mtime - 10,) * 2)
    main(["report", str(tmp_path)])
    printed = capsys.readouterr().out
    assert rows(printed, "exp")[0][5] == "75.0"
    assert f"newer: {old}" in printed


@pytest.mark.parametrize(("exists", "message"), [(True, "No results.json under"), (False, "does not exist")])
def test_nothing_to_report(tmp_path: Path, capsys: pytest.CaptureFixture, exists: bool, message: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["report", str(tmp_path if exists else tmp_path / "none")])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", "[]", '{"data": "Data"}', "null"])
def test_a_broken_result_is_named(tmp_path: Path, capsys: pytest.CaptureFixture, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path)])
    assert "results.json is not a result of this version's `lightning test`" in capsys.readouterr().err


def test_a_table_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_result(tmp_path / "a", 0.5)
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path), "--csv", str(tmp_path)])
    assert "cannot be written: Is a directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    "other", [{"folds": []}, {"trained": []}, {"scores": []}, {"protocol": []}, {"fold": 4}, {"scores": {"QGNet": []}}]
)
@pytest.mark.parametrize("classes", [[], ["--classes"]])
def test_a_result_with_an_empty_list_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture, other: dict, classes: list[str]
) -> None:
    write_result(tmp_path / "a", 0.5, **({"fold": 1} | other))
    with pytest.raises(SystemExit) as stop:
        main(["report", *classes, str(tmp_path)])
    assert stop.value.code == 2
    assert "results.json is not a result of this version's `lightning test`" in capsys.readouterr().err


def test_names_are_text_in_every_output(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_result(tmp_path / "a", 0.5, experiment="=1+1|x\x1b[31m")
    table, text = tmp_path / "t.csv", tmp_path / "t.md"
    main(["report", str(tmp_path), "--csv", str(table), "--markdown", str(text)])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed + table.read_text() + text.read_text()
    assert r"=1+1|x\x1b[31m" in printed
    assert {r["experiment"] for r in csv.DictReader(table.open())} == {r"'=1+1|x\x1b[31m"}
    assert r"| =1+1\|x\\x1b[31m |" in text.read_text()


@pytest.mark.parametrize("manifest", [None, "drawn.json"])
def test_rows_of_other_episodes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture, manifest: str | None) -> None:
    """By the seed that draws them; a manifest holds them itself."""
    for experiment, seed in (("hsnet", 5), ("dcama", 5), ("ours", 6)):
        write_result(tmp_path / experiment, 0.5, seed=seed, experiment=experiment, episode_file=manifest)
    text = tmp_path / "table.md"
    main(["report", str(tmp_path), "--markdown", str(text)])
    note = "not all on the same episodes, which are drawn: dcama, hsnet by seed 5; ours by seed 6"
    assert (note in capsys.readouterr().out) == (note in text.read_text()) == (manifest is None)
    for experiment in ("dcama", "hsnet"):
        assert main(["report", str(tmp_path / experiment)]) is None
        assert "not all" not in capsys.readouterr().out
