"""The server of ``qgnet serve``: what is in the ZIP."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from serving import DISC, paint, segment, unzipped, write_scenes

pytest_plugins = ["serving"]

FORMATS = {"formats": ["index", "coco", "labelme", "overlay"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_scenes(tmp_path / "photographs/below", 1)
    return write_scenes(tmp_path / "photographs")


def test_nothing_tells_where_the_folder_lies(page: TestClient, folder: Path) -> None:
    paint(page, "a0.png", DISC)
    segment(page)
    with unzipped(page.post("/api/download", params=FORMATS)) as archive:
        for name in archive.namelist():
            assert str(folder.parent).encode() not in archive.read(name), name
        images = [json.loads(archive.read(f"labelme/{name}.json"))["imagePath"] for name in ("a1", "below/a0")]
        assert images == ["a1.png", "a0.png"]  # beside the JSON, where labelme looks for them
        lines = archive.read("segments.csv").decode().splitlines()
        assert [line.split(",")[0] for line in lines] == ["image", "a0.png", "a1.png", "a2.png", "below/a0.png"]


def test_a_class_that_was_not_looked_for_keeps_its_number(page: TestClient) -> None:
    classes = [{"number": 2, "name": "first"}, {"number": 1, "name": "second"}]
    assert page.put("/api/settings", json={"classes": classes}).status_code == 200
    paint(page, "a0.png", DISC)
    segment(page)
    with unzipped(page.post("/api/download", params=FORMATS)) as archive:
        assert archive.read("classes.txt") == b"first\nsecond\n"
        for name in ("a0.png", "a1.png"):
            assert np.unique(np.asarray(Image.open(io.BytesIO(archive.read(name))))).tolist() == [0, 2]
        assert {one["category_id"] for one in json.loads(archive.read("annotations.json"))["annotations"]} == {2}


def test_names_that_are_no_text(page: TestClient, folder: Path) -> None:
    name = os.fsdecode(b"\xff.png")
    try:
        (folder / "a1.png").rename(folder / name)
    except OSError:
        pytest.skip("this file system takes no such names")
    paint(page, "a0.png", DISC)
    outcomes = segment(page)
    assert outcomes["\ufffd.png"]["scores"]
    with unzipped(page.post("/api/download", params=FORMATS)) as archive:
        assert {"_ff.png", "labelme/_ff.json", "overlays/_ff.jpg"} <= set(archive.namelist())


def test_a_long_name(page: TestClient, folder: Path) -> None:
    name = "x" * 251 + ".png"
    (folder / "a1.png").rename(folder / name)
    paint(page, name, DISC)
    answer = page.post("/api/download", params={"formats": ["index"]})
    with unzipped(answer) as archive:
        assert name in archive.namelist()
