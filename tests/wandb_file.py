"""Reads what wandb writes offline: a log of protocol-buffer records in blocks (LevelDB's log format)."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from wandb.proto.wandb_internal_pb2 import Record

HEADER = 7
BLOCK = 32768


class WandbRun(NamedTuple):
    id: str
    group: str
    name: str
    job_type: str
    tags: list[str]
    project: str
    config: dict[str, Any]
    history: dict[str, list[Any]]
    summary: dict[str, Any]


def records(file: Path) -> list[Record]:
    data = file.read_bytes()
    position, parts, found = HEADER, b"", []
    while position + HEADER <= len(data):
        if BLOCK - position % BLOCK < HEADER:  # padding at a block's end
            position += BLOCK - position % BLOCK
            continue
        length = int.from_bytes(data[position + 4 : position + 6], "little")
        kind = data[position + 6]  # 1 whole, 2 first, 3 middle, 4 last
        if kind == 0:
            break
        parts += data[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):
            found.append(Record.FromString(parts))
            parts = b""
    return found


def put(row: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        row = row.setdefault(key, {})
    row[path[-1]] = value


def read_run(folder: Path) -> WandbRun:
    """The newest offline run under a run's folder."""
    file = max(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime)
    config: dict[str, Any] = {}
    history: dict[str, list[Any]] = {}
    summary: dict[str, Any] = {}
    run = None
    for record in records(file):
        kind = record.WhichOneof("record_type")
        if kind == "run" and run is None:
            run = record.run
            config |= {item.key: json.loads(item.value_json) for item in run.config.update if item.key}
        elif kind == "config":
            config |= {item.key: json.loads(item.value_json) for item in record.config.update if item.key}
        elif kind == "history":
            row: dict[str, Any] = {}
            for item in record.history.item:
                put(row, [item.key] if item.key else list(item.nested_key), json.loads(item.value_json))
            for key, value in row.items():
                history.setdefault(key, []).append(value)
        elif kind == "summary":
            for item in record.summary.update:
                put(summary, [item.key] if item.key else list(item.nested_key), json.loads(item.value_json))
    assert run is not None
    return WandbRun(
        run.run_id, run.run_group, run.display_name, run.job_type, list(run.tags), run.project, config, history, summary
    )
