"""``qgnet report``: finished tests as one table."""

import argparse
import json
from pathlib import Path
from typing import Any

from datamodules.errors import InputError
from qgnet.callbacks.results import EVERYTHING, RESULTS, THRESHOLDS, guided

COLUMN = 14


def add_parser(subcommands: Any) -> None:
    """Register the subcommand."""
    parser = subcommands.add_parser("report", help="print the results of finished tests", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders, searched for results.json at any depth")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print a table per data set, fold and seed; one block of columns per test.

    Raises:
        InputError: if a folder is missing or there is no result.
    """
    groups: dict[tuple[str, int, int], list[tuple[Path, dict[str, Any]]]] = {}
    for path in find_results(options.runs):
        result = json.loads(path.read_text())
        groups.setdefault((result["data"], result["fold"], result["seed"]), []).append((path, result))
    for (data, fold, seed), tests in sorted(groups.items()):
        tests.sort(key=lambda test: (test[1]["shots"], str(test[0])))
        print(f"\n{data}, fold {fold}, seed {seed} (IoU in %)")
        print(table([result for _, result in tests]))
        for number, (path, result) in enumerate(tests, start=1):
            print(f"  [{number}] {result['shots']}-shot, {result['episodes']} episodes: {path}")


def find_results(folders: list[Path]) -> list[Path]:
    """All results.json under the folders."""
    for folder in folders:
        if not folder.exists():
            raise InputError(f"{folder} does not exist. Give the folder of a test run, or one above it.")
    found = sorted({path for folder in folders for path in folder.rglob(RESULTS)})
    if not found:
        raise InputError(
            f"No {RESULTS} under {', '.join(map(str, folders))}. `lightning test` writes it; run a test first."
        )
    return found


def table(results: list[dict[str, Any]]) -> str:
    """Classes, mIoU and FB-IoU as rows; for each test QGNet, its guided map alone and everything foreground."""
    columns: list[tuple[str, str, dict[str, Any]]] = []
    for number, result in enumerate(results, start=1):
        scores = result["scores"]
        best = max(map(guided, THRESHOLDS), key=lambda name: scores[name]["miou"])
        title = f"[{number}] {result['shots']}-shot"
        columns += [(title, "QGNet", scores["QGNet"]), ("", best.replace("guided map", "guided"), scores[best])]
        columns += [("", "everything", scores[EVERYTHING])]
    classes = list(columns[0][2]["class_iou"])
    width = max(len("FB-IoU"), *map(len, classes)) + 2
    lines = ["".join([" " * width, *(f"{c[i]:>{COLUMN}}" for c in columns)]) for i in (0, 1)]
    rows = [(name, [c[2]["class_iou"][name] for c in columns]) for name in classes]
    rows += [("mIoU", [c[2]["miou"] for c in columns]), ("FB-IoU", [c[2]["fb_iou"] for c in columns])]
    lines += [f"{name:<{width}}" + "".join(f"{cell(value):>{COLUMN}}" for value in values) for name, values in rows]
    note = f"everything: {EVERYTHING}; guided: the guided map alone, at the best of the thresholds 0.1 … 0.9"
    return "\n".join([*lines, note])


def cell(value: float | None) -> str:
    """A score in [0, 1] as per cent; a class without an episode as a dash."""
    return "-" if value is None else f"{100 * value:.1f}"
