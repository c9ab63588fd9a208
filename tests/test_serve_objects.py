"""The server of ``qgnet serve``: single objects of what was painted or found, counted and downloaded."""

import base64
import csv
import io
import json

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image
from serving import COLUMNS, DISC, ROWS, keys, paint, segment, unzipped

pytest_plugins = ["serving"]

TOUCHING = sum((ROWS - 20) ** 2 + (COLUMNS - x) ** 2 < 90 for x in (20, 36)).clip(0, 1)
FORMATS = ["index", "coco", "labelme", "overlay"]


def objects(page: TestClient, name: str) -> tuple[dict[str, int], np.ndarray | None]:
    answer = page.get(f"/api/images/{keys(page)[name]}/objects").json()
    png = base64.b64decode(answer["png"])
    return answer["counts"], np.asarray(Image.open(io.BytesIO(png))) if png else None


def test_what_is_painted_is_counted(page: TestClient) -> None:
    assert objects(page, "a1.png") == ({}, None)
    page.put("/api/settings", json={"classes": [{"number": 3, "name": "coin"}, {"number": 1, "name": "disc"}]})
    mask = TOUCHING * 3
    mask[35:, 50:] = 1
    paint(page, "a1.png", mask)
    counts, found = objects(page, "a1.png")
    assert counts == {"3": 2, "1": 1}
    assert found is not None
    assert np.array_equal(found > 0, mask > 0)
    assert len({found[20, 15], found[20, 41], found[38, 55]}) == 3


def test_what_is_found_is_counted_at_the_thresholds_of_this_moment(page: TestClient) -> None:
    paint(page, "a0.png", DISC)
    segment(page)
    counts, found = objects(page, "a2.png")
    assert counts == {"1": 1}
    assert found is not None
    assert found[20, 25] == 1
    assert not found[0, 0]
    settings = {"classes": [{"number": 1, "name": "object"}], "thresholds": {"1": 0.999}}
    assert page.put("/api/settings", json=settings).status_code == 200
    assert objects(page, "a2.png")[0] == {"1": 0}


def test_downloaded_as_single_objects_when_asked_for(page: TestClient) -> None:
    paint(page, "a0.png", TOUCHING)
    for instances, number in ((False, 1), (True, 2)):
        answer = page.post("/api/download", params={"formats": FORMATS, "instances": instances})
        with unzipped(answer) as archive:
            assert len(json.loads(archive.read("annotations.json"))["annotations"]) == number
            shapes = json.loads(archive.read("labelme/a0.json"))
            assert [shape["group_id"] for shape in shapes["shapes"]] == ([1, 2] if instances else [None])
            assert shapes["imagePath"] == "a0.png"
            (row,) = csv.DictReader(io.StringIO(archive.read("segments.csv").decode()))
            assert row.get("objects") == ("2" if instances else None)
            assert np.asarray(Image.open(io.BytesIO(archive.read("a0.png")))).sum() == TOUCHING.sum()


def test_an_image_that_is_gone(page: TestClient) -> None:
    assert page.get("/api/images/none/objects").status_code == 404
