"""The server of ``qgnet serve``: rough strokes as supports, and grown to the object's edge."""

import io
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from serving import DISC, as_png, browser, keys, segment, unzipped

from qgnet.inference.segmenter import Segmenter
from qgnet.web import routes

pytest_plugins = ["serving"]

STROKES = np.zeros((40, 60), np.uint8)
STROKES[19:21, 20:30] = 1
BACKGROUND = STROKES.copy()
BACKGROUND[2:4, 5:55] = BACKGROUND[36:38, 5:55] = BACKGROUND[4:36, 50:52] = 255


def put(page: TestClient, mask: np.ndarray, **params: object) -> dict:
    path = f"/api/images/{keys(page)['a0.png']}/mask.png"
    return page.put(path, params={"support": True, "rough": True} | params, content=as_png(mask)).json()


def snapped(page: TestClient, mask: np.ndarray, number: int = 1, rough: bool = True) -> np.ndarray:
    path = f"/api/images/{keys(page)['a0.png']}/{number}/snap.png"
    answer = page.post(path, params={"rough": rough}, content=as_png(mask))
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def overlap(mask: np.ndarray) -> float:
    return ((mask == 1) & (DISC == 1)).sum() / ((mask == 1) | (DISC == 1)).sum()


def test_strokes_teach_and_their_image_is_segmented(page: TestClient, folder: Path, segmenter: Segmenter) -> None:
    assert put(page, BACKGROUND)["painted"] == {"support": True, "classes": [1], "rough": True}
    outcomes = segment(page)
    assert set(outcomes["a0.png"]["scores"]) == {"1"}
    meant = np.where(BACKGROUND == 0, 255, BACKGROUND % 255).astype(np.uint8)
    truth = segmenter.fit([(folder / "a0.png", meant)], scribbles=True).predict(folder / "a1.png").best
    found = np.asarray(
        Image.open(io.BytesIO(page.get(f"/api/images/{keys(page)['a1.png']}/1/probability.png").content))
    )
    assert np.abs(found / 255 - truth.probability).max() < 0.01
    with unzipped(page.post("/api/download", params={"formats": ["index"]})) as archive:
        assert (np.asarray(Image.open(archive.open("a0.png"))) == 1).sum() > 1.5 * (STROKES == 1).sum()
    page.app.state.workspace.close()
    with browser(folder, segmenter) as again:  # it is kept
        assert next(one for one in again.get("/api/session").json()["images"] if one["name"] == "a0.png")["painted"][
            "rough"
        ]


def test_strokes_of_the_object_alone(page: TestClient) -> None:
    put(page, STROKES)
    page.post("/api/segment", json={})
    page.app.state.workspace.worker.future.result(timeout=60)
    assert (
        "a0.png has strokes of one class alone. Paint some background" in page.app.state.workspace.worker.job["error"]
    )
    put(page, STROKES, rough=False)
    assert segment(page)["a1.png"]["scores"]


def test_a_stroke_is_grown(page: TestClient) -> None:
    found = snapped(page, BACKGROUND)
    assert overlap(found) > 0.95
    assert np.array_equal(found == 255, BACKGROUND == 255)
    assert overlap(snapped(page, STROKES, rough=False)) > 0.95


def test_what_is_painted_stays(page: TestClient) -> None:
    page.put("/api/settings", json={"classes": [{"number": 1, "name": "a"}, {"number": 2, "name": "b"}]})
    other = BACKGROUND.copy()
    other[14:17, 22:28] = 2
    ignored = STROKES.copy()
    ignored[24:27, 22:28] = 255
    for mask, rough in ((other, True), (ignored, False)):
        found = snapped(page, mask, rough=rough)
        assert np.array_equal(found[mask != 0], mask[mask != 0])
        assert (found == 1).sum() > (mask == 1).sum()
    assert (snapped(page, other, number=2) == 2).sum() > (other == 2).sum()


def test_what_cannot_be_grown(page: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"/api/images/{keys(page)['a0.png']}/1/snap.png"
    for content, message in (
        (as_png(np.zeros((40, 60))), "no stroke of this class"),
        (as_png(np.ones((4, 6))), "expected 60x40 px"),
        (b"nothing", "The mask is not a PNG"),
    ):
        answer = page.post(path, content=content)
        assert (answer.status_code, message in answer.json()["error"]) == (422, True)
    assert page.post("/api/images/none/1/snap.png", content=as_png(STROKES)).status_code == 404
    assert page.post(path, content=as_png(STROKES), headers={"origin": "http://elsewhere"}).status_code == 403
    monkeypatch.setattr(routes, "MOST_BYTES", 10)
    assert page.post(path, content=as_png(STROKES)).status_code == 413
