"""Finished tests as the tables of papers: folds, their mean, mIoU and FB-IoU, ± over seeds."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qgnet.runs.conditions import Setting

HEADER = ["experiment", "trained", "checkpoint", "seeds"]
CONTROLS = {"overlap": "support_overlap", "absent": "absent_to_present"}
"""Columns of the control of the support, see :class:`qgnet.metrics.ControlScore`."""
MEANS = ["mIoU", "FB-IoU"]


@dataclass(frozen=True, order=True)
class Trained:
    """A row of a table: an experiment, the shots it was trained with, and which of its checkpoints."""

    experiment: str
    shots: int
    checkpoint: str

    @classmethod
    def of(cls, result: dict[str, Any]) -> "Trained":
        """The row of one ``results.json``."""
        checkpoint = Path(result["checkpoint"]).stem if result["checkpoint"] else "none"
        return cls(result["trained"]["experiment"], result["trained"]["shots"] or 0, checkpoint)


def own_score(result: dict[str, Any]) -> dict[str, Any]:
    """The score of the tested method, not of the baselines; in old results the method is QGNet."""
    return dict(result["scores"][result.get("method", "QGNet")])


Seeds = tuple[Any, ...]
"""Of the training's weights, of its episodes, and of the test's episodes."""
Score = tuple[float, float]
"""mIoU and FB-IoU, in [0, 1]."""


class Row:
    """The tests of one experiment in one setting.

    Args:
        tests: fold and seeds → score.
        folds: how many the data set has.
    """

    def __init__(self, tests: dict[tuple[int, Seeds], Score], folds: int) -> None:
        self.tests = tests
        self.tested = sorted({fold for fold, _ in tests})
        self.missing = [fold for fold in range(folds) if fold not in self.tested]
        seeds = sorted({seeds for _, seeds in tests}, key=str)
        self.whole = [s for s in seeds if all((fold, s) in tests for fold in self.tested)]
        self.partial = [s for s in seeds if s not in self.whole]

    def fold(self, fold: int) -> list[Score]:
        """The scores of one fold, one per seed."""
        return [score for (f, _), score in self.tests.items() if f == fold]

    def mean(self) -> list[Score]:
        """The mean over the tested folds, for each seed that has them all."""
        per_seed = [[self.tests[fold, seeds] for fold in self.tested] for seeds in self.whole]
        return [(statistics.mean(s[0] for s in scores), statistics.mean(s[1] for s in scores)) for scores in per_seed]


class Table:
    """All rows of one setting."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.tests: dict[Trained, dict[tuple[int, Seeds], Score]] = {}
        self.controls: dict[Trained, dict[tuple[int, Seeds], dict[str, float | None]]] = {}

    def add(self, result: dict[str, Any]) -> tuple[Trained, int, Seeds]:
        """Add a test to its row, which is returned."""
        trained, fold, score = Trained.of(result), result["fold"], own_score(result)
        seeds = (result["trained"]["seed"], result["trained"]["data_seed"], result["seed"])
        self.tests.setdefault(trained, {})[fold, seeds] = (score["miou"], score["fb_iou"])
        self.controls.setdefault(trained, {})[fold, seeds] = result.get("control") or {}
        return trained, fold, seeds

    @property
    def order(self) -> tuple[str, str, int]:
        """Tables of one kind of test together, fewer shots first."""
        return self.setting.data, self.setting.choices, self.setting.shots

    @property
    def rows(self) -> list[tuple[Trained, Row]]:
        """The rows by name."""
        return [(trained, Row(tests, self.setting.folds)) for trained, tests in sorted(self.tests.items())]

    @property
    def title(self) -> str:
        """The tested data and settings."""
        return f"{self.setting.data}, {self.setting.shots}-shot, {self.setting.choices}"

    @property
    def header(self) -> list[str]:
        """The names of the columns."""
        return [*HEADER, *(f"fold {fold}" for fold in range(self.setting.folds)), *MEANS, *self.controlled]

    def cells(self) -> list[list[str]]:
        """The table's rows as text: mIoU per fold, then the means of mIoU and FB-IoU, all in per cent."""
        lines = []
        for trained, row in self.rows:
            folds = [mean_and_deviation([miou for miou, _ in row.fold(fold)]) for fold in range(self.setting.folds)]
            star = "*" if row.missing or row.partial else ""
            means = [mean_and_deviation([score[i] for score in row.mean()]) + star for i in (0, 1)]
            shots = f"{trained.shots}-shot" if trained.shots else "-"
            control = [self.control(trained, CONTROLS[name]) for name in self.controlled]
            lines.append([trained.experiment, shots, trained.checkpoint, str(len(row.whole)), *folds, *means, *control])
        return lines

    @property
    def controlled(self) -> list[str]:
        """The columns of the control of the support, if any test has it."""
        return list(CONTROLS) if any(c for tests in self.controls.values() for c in tests.values()) else []

    def control(self, trained: Trained, name: str) -> str:
        """A ratio of the control of the support, the mean over all tests that have it; a dash without any."""
        found = [control.get(name) for control in self.controls[trained].values()]
        values = [value for value in found if value is not None]
        return f"{statistics.mean(values):.2f}" if values else "-"

    def text(self) -> str:
        """The table for a terminal, below an empty line."""
        return "\n".join(["", self.title, *align([self.header, *self.cells()]), *self.notes()])

    def notes(self) -> list[str]:
        """Notes on missing folds and seeds."""
        notes = self.other_episodes()
        for trained, row in self.rows:
            name = f"{trained.experiment}, {trained.checkpoint}"
            if row.missing:
                notes.append(f"* {name}: without fold {', '.join(map(str, row.missing))}")
            for seeds in row.partial:
                absent = [fold for fold in row.tested if (fold, seeds) not in row.tests]
                seed = "/".join(map(str, dict.fromkeys(seeds)))
                notes.append(f"* {name}: seed {seed} has no fold {', '.join(map(str, absent))}, and is not in the mean")
        return notes

    def other_episodes(self) -> list[str]:
        """A note if the rows are of different seeds of the test, and so of different episodes."""
        by_seed: dict[tuple[Any, ...], list[str]] = {}
        for trained, row in self.rows:
            drawn = tuple(sorted({seeds[2] for _, seeds in row.tests}))
            by_seed.setdefault(drawn, []).append(trained.experiment)
        if len(by_seed) < 2 or self.setting.of_manifest:
            return []
        parts = [f"{', '.join(dict.fromkeys(x))} by seed {'/'.join(map(str, s))}" for s, x in sorted(by_seed.items())]
        return [f"not all on the same episodes, which are drawn: {'; '.join(parts)}"]

    def records(self) -> list[dict[str, Any]]:
        """A record per row and fold, and one for the mean; scores in [0, 1], the deviation empty for one seed."""
        records = []
        for trained, row in self.rows:
            parts = [(str(fold), row.fold(fold)) for fold in row.tested]
            for fold, scores in [*parts, ("mean", row.mean())]:
                record: dict[str, Any] = {
                    "data": self.setting.data,
                    "choices": self.setting.choices,
                    "shots": self.setting.shots,
                    "experiment": trained.experiment,
                    "trained_shots": trained.shots or None,
                    "checkpoint": trained.checkpoint,
                    "fold": fold,
                    "seeds": len(scores),
                }
                for i, name in enumerate(("miou", "fb_iou")):
                    values = [score[i] for score in scores]
                    record[name] = statistics.mean(values) if values else None
                    record[f"{name}_std"] = statistics.stdev(values) if len(values) > 1 else None
                for name in CONTROLS.values():
                    found = [c.get(name) for (f, _), c in self.controls[trained].items() if fold in (str(f), "mean")]
                    values = [value for value in found if value is not None]
                    record[name] = statistics.mean(values) if values else None
                record["complete"] = fold != "mean" or not (row.missing or row.partial)
                records.append(record)
        return records


def mean_and_deviation(values: list[float]) -> str:
    """Values in [0, 1] as per cent: the mean, ± the sample standard deviation if there are several."""
    if not values:
        return "-"
    mean = f"{100 * statistics.mean(values):.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean


def align(rows: list[list[str]]) -> list[str]:
    """Lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def markdown(rows: list[list[str]]) -> list[str]:
    """The rows as a Markdown table, the first as its head."""
    escaped = [[cell.replace("\\", "\\\\").replace("|", "\\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def collect(results: Iterable[dict[str, Any]]) -> tuple[list[Table], list[dict[str, Any]]]:
    """The tables of all results, and the results that a later one of the same test replaces."""
    tables: dict[Setting, Table] = {}
    newest: dict[Any, dict[str, Any]] = {}
    replaced = []
    for result in results:
        table = tables.setdefault(Setting.of(result), Table(Setting.of(result)))
        key = (table.setting, *table.add(result))
        if key in newest:
            replaced.append(newest[key])
        newest[key] = result
    return sorted(tables.values(), key=lambda table: table.order), replaced
