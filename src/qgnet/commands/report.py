"""``qgnet report``: finished tests as tables."""

import argparse
import csv
import io
import json
from pathlib import Path
from typing import Any

from datamodules.files.writing import atomic_write
from qgnet.common.errors import InputError
from qgnet.common.paths import expanded
from qgnet.common.terminal import printable
from qgnet.runs.conditions import Setting
from qgnet.runs.results import EVERYTHING, RESULTS, THRESHOLDS, guided
from qgnet.runs.tables import Table, collect, markdown, own_score

COLUMN = 14


def add_parser(subcommands: Any) -> None:
    """Register the subcommand."""
    parser = subcommands.add_parser(
        "report",
        description="One table per data set, protocol and number of shots: mIoU of each fold, then the means of mIoU "
        "and FB-IoU over the folds, in per cent; ± is the sample standard deviation over seeds.",
    )
    parser.add_argument("runs", nargs="+", type=expanded, help="folders, searched for results.json at any depth")
    parser.add_argument("--classes", action="store_true", help="IoU of each class, with two baselines, instead")
    parser.add_argument(
        "--csv", type=expanded, metavar="FILE", help="write all scores as CSV, one line per experiment and fold"
    )
    parser.add_argument("--markdown", type=expanded, metavar="FILE", help="write the tables as Markdown")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the tables and write what is asked for."""
    results = read_results(options.runs)
    if options.classes:
        print_classes(results)
        return
    tables, replaced = collect(results.values())
    for table in tables:
        print(table.text())
    print("\nmIoU per fold; mIoU and FB-IoU: means over folds, in %; ±: sample standard deviation over seeds")
    if any(table.controlled for table in tables):
        print("overlap: of the predictions under right and absent classes' supports, 1: the support does not matter")
        print("absent: pixels predicted under an absent class for each one under the right class")
    for path, result in results.items():
        if any(result is old for old in replaced):
            print(f"left out, the same test is there once more and newer: {path}")
    if options.csv:
        write_csv(options.csv, tables)
    if options.markdown:
        lines = [line for t in tables for line in ["", t.title, "", *markdown([t.header, *t.cells()]), "", *t.notes()]]
        write(options.markdown, "\n".join(lines[1:]) + "\n")


def write_csv(file: Path, tables: list[Table]) -> None:
    """Every fold's and mean's score of every experiment."""
    records = [record for table in tables for record in table.records()]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: no_formula(value) for key, value in record.items()} for record in records)
    write(file, text.getvalue())


def no_formula(value: Any) -> Any:
    """A text that a spreadsheet would compute, behind an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def write(file: Path, text: str) -> None:
    """Write a file and say so; InputError if it cannot be written."""
    try:
        with atomic_write(file) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}. Choose another file.") from error
    print(f"Wrote {file}")


def read_results(folders: list[Path]) -> dict[Path, dict[str, Any]]:
    """All results under the folders, the oldest first.

    Raises:
        InputError: if a file is not a result of this version's ``lightning test``.
    """
    results = {}
    for path in sorted(find_results(folders), key=lambda path: path.stat().st_mtime):
        try:
            results[path] = printable(json.loads(path.read_text()))
            check(results[path])
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path} is not a result of this version's `lightning test` ({error!r}). Run the test again, or "
                "remove it."
            ) from error
    return results


def check(result: dict[str, Any]) -> None:
    """An error of any kind unless a result can stand in a table, and its classes in another."""
    if not 0 <= result["fold"] < result["folds"]:
        raise ValueError(f"fold {result['fold']} of {result['folds']}")
    if not own_score(result)["class_iou"].values():
        raise ValueError("no class")
    Table(Setting.of(result)).add(result)
    class_table([result])


def print_classes(results: dict[Path, dict[str, Any]]) -> None:
    """A table per setting (but for the shots), fold and seed; one block of columns per test."""
    groups: dict[tuple[str, int, int, str], list[tuple[Path, dict[str, Any]]]] = {}
    for path, result in results.items():
        key = (result["data"], result["fold"], result["seed"], Setting.of(result).choices)
        groups.setdefault(key, []).append((path, result))
    for (data, fold, seed, choices), tests in sorted(groups.items()):
        tests.sort(key=lambda test: (test[1]["shots"], str(test[0])))
        print(f"\n{data}, fold {fold}, seed {seed} (IoU in %)\n{choices}")
        print(class_table([result for _, result in tests]))
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


def class_table(results: list[dict[str, Any]]) -> str:
    """Classes, mIoU and FB-IoU as rows; for each test the network, its guided map alone and everything foreground."""
    columns: list[tuple[str, str, dict[str, Any]]] = []
    for number, result in enumerate(results, start=1):
        scores = result["scores"]
        maps = [name for name in map(guided, THRESHOLDS) if name in scores]  # none of a network without a guided map
        title = f"[{number}] {result['shots']}-shot"
        own = result.get("method", "QGNet")
        columns.append((title, own.replace("matching ", ""), scores[own]))
        for best in sorted(maps, key=lambda name: -scores[name]["miou"])[:1]:
            columns.append(("", best.replace("guided map", "guided"), scores[best]))
        columns += [("", "everything", scores[EVERYTHING])]
    classes = list(columns[0][2]["class_iou"])
    width = max(len("FB-IoU"), *map(len, classes)) + 2
    lines = ["".join([" " * width, *(f"{c[i]:>{COLUMN}}" for c in columns)]) for i in (0, 1)]
    rows = [(name, [c[2]["class_iou"][name] for c in columns]) for name in classes]
    rows += [("mIoU", [c[2]["miou"] for c in columns]), ("FB-IoU", [c[2]["fb_iou"] for c in columns])]
    lines += [f"{name:<{width}}" + "".join(f"{cell(value):>{COLUMN}}" for value in values) for name, values in rows]
    note = f"everything: {EVERYTHING}"
    if any(name.startswith("guided") for _, name, _ in columns):
        note += "; guided: the guided map alone, at the best of the thresholds 0.1 … 0.9"
    return "\n".join([*lines, note])


def cell(value: float | None) -> str:
    """A score in [0, 1] as per cent; a class without an episode as a dash."""
    return "-" if value is None else f"{100 * value:.1f}"
