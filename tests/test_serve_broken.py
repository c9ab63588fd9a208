"""The server of ``qgnet serve``: files of its own that are broken or gone, and a disk that fails."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from serving import DISC, as_png, browser, keys, paint, segment

from qgnet.inference.segmenter import Segmenter

pytest_plugins = ["serving"]

CLASSES = [{"number": 1, "name": "disc"}, {"number": 3, "name": "edge"}]


@pytest.fixture
def kept(folder: Path, segmenter: Segmenter) -> Path:
    """The folder of a session with two supports, a correction, names, a threshold and results; its server has ended."""
    with browser(folder, segmenter) as page:
        page.put("/api/settings", json={"classes": CLASSES, "thresholds": {"1": 0.3}})
        paint(page, "a0.png", DISC)
        paint(page, "a1.png", DISC * 3)
        segment(page)
        paint(page, "a2.png", DISC, support=False)
    return folder / ".qgnet-page"


def no_number(kept: dict) -> None:
    kept["settings"]["thresholds"]["1"] = float("nan")


def no_name(kept: dict) -> None:
    kept["settings"]["classes"][1] = {"number": 3}


def no_entry(kept: dict) -> None:
    del next(iter(kept["painted"].values()))["support"]


@pytest.mark.parametrize(
    ("spoil", "names", "supports"),
    [
        (lambda text: text.replace(b"disc", b"d\xff"), ["d\ufffd", "edge"], 2),  # not in UTF-8
        (lambda text: b"\xef\xbb\xbf" + text, ["disc", "edge"], 2),  # as Windows' editor writes it
        (lambda text: text[:60], ["object", "class 3"], 3),  # torn
        (lambda text: b"[]", ["object", "class 3"], 3),
        (lambda text: b"[" * 100_000, ["object", "class 3"], 3),
        (no_number, ["disc", "edge"], 2),
        (no_name, ["disc", "class 3"], 2),
        (no_entry, ["disc", "edge"], 2),
        (None, ["object", "class 3"], 3),
    ],
    ids=["bytes", "mark", "torn", "list", "deep", "nan", "nameless", "entry", "gone"],
)
def test_a_broken_session_file_loses_no_mask(
    kept: Path, segmenter: Segmenter, spoil: Callable | None, names: list[str], supports: int
) -> None:
    file = kept / "session.json"
    whole = file.read_bytes()
    if spoil is None:
        file.unlink()
    elif spoil in (no_number, no_name, no_entry):
        content = json.loads(whole)
        spoil(content)
        file.write_text(json.dumps(content))
    else:
        file.write_bytes(spoil(whole))
    broken = file.read_bytes() if file.exists() else None
    with browser(kept.parent, segmenter) as page:
        session = page.get("/api/session").json()
        assert [one["name"] for one in session["settings"]["classes"]] == names
        painted = {one["name"]: one["painted"] for one in session["images"]}
        assert [one["classes"] for one in painted.values()] == [[1], [3], [1]]
        assert sum(one["support"] for one in painted.values()) == supports
        assert "session.json" in session["warnings"][0]
        assert page.put("/api/settings", json=session["settings"]).status_code == 200
        paint(page, "a0.png", DISC)
        page.delete(f"/api/images/{keys(page)['a2.png']}/mask.png")
        assert segment(page)["a2.png"]["scores"].keys() == {"1", "3"}
    copies = [copy.read_bytes() for copy in kept.glob("broken-*-session.json")]
    assert copies == ([] if broken is None else [broken])
    with browser(kept.parent, segmenter) as page:  # whole again
        assert page.get("/api/session").json()["warnings"] == []


@pytest.mark.parametrize(
    "line",
    [b"{}", b'["key"]', b'["key", {"stamp": "x"}]', b"\xff\xfe", b"nothing", b"[" * 100_000],
    ids=["dictionary", "short", "stamp", "bytes", "text", "deep"],
)
def test_a_wrong_line_of_the_log_does_not_take_the_others_along(
    folder: Path, segmenter: Segmenter, line: bytes
) -> None:
    with browser(folder, segmenter) as page:
        paint(page, "a0.png", DISC)
        segment(page)
        before = page.get("/api/session").json()
    log = folder / ".qgnet-page/results.jsonl"
    spoilt = line + b"\n" + log.read_bytes().rstrip()  # as an editor may leave it
    log.write_bytes(spoilt)
    with browser(folder, segmenter) as page:
        after = page.get("/api/session").json()
        assert "1 lines of" in after.pop("warnings")[0]
        before.pop("warnings")
        assert after == before
    assert (folder / ".qgnet-page/broken-1-results.jsonl").read_bytes() == spoilt
    with browser(folder, segmenter) as page:
        assert page.get("/api/session").json()["warnings"] == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda mask, _: mask.unlink(), "The painted mask of a0.png is gone"),
        (lambda mask, _: mask.write_bytes(mask.read_bytes()[:50]), "The painted mask of a0.png cannot be read"),
        (lambda mask, _: mask.write_bytes(as_png(np.zeros((40, 60)))), "The painted mask of a0.png marks nothing"),
        (lambda mask, _: mask.write_bytes(as_png(np.ones((40, 60)))), "The painted mask of a0.png marks everything"),
        (lambda _, image: Image.new("RGB", (30, 20)).save(image), "The painted mask of a0.png is 60x40 px"),
    ],
    ids=["gone", "torn", "nothing", "everything", "exchanged"],
)
def test_a_painted_mask_that_cannot_be_used_is_named(
    page: TestClient, folder: Path, spoil: Callable[[Path, Path], object], message: str
) -> None:
    paint(page, "a0.png", DISC)
    paint(page, "a1.png", DISC)
    key = keys(page)["a0.png"]
    spoil(folder / f".qgnet-page/masks/{key}.png", folder / "a0.png")
    page.post("/api/segment", json={})
    page.app.state.workspace.worker.future.result(timeout=60)
    assert message in page.app.state.workspace.worker.job["error"]
    assert not page.app.state.workspace.worker.job["running"]
    if "marks" not in message:
        for answer in (
            page.post("/api/download", params={"formats": ["index", "overlay"]}),
            page.get(f"/api/images/{key}/mask.png"),
            page.get(f"/api/images/{key}/mask.png?small=true"),
        ):
            assert answer.status_code == 422
            assert message in answer.json()["error"]
    assert page.delete(f"/api/images/{key}/mask.png").status_code == 200
    assert segment(page)["a0.png"]["scores"]
    assert page.post("/api/download", params={"formats": ["index", "overlay"]}).status_code == 200


def test_what_was_found_is_gone(page: TestClient, folder: Path) -> None:
    paint(page, "a0.png", DISC)
    segment(page)
    key = keys(page)["a2.png"]
    (folder / f".qgnet-page/results/{key}/1/1-probability.png").unlink()
    assert page.get(f"/api/images/{key}/1/probability.png").status_code == 404
    answer = page.post("/api/download", params={"formats": "index"})
    assert answer.status_code == 422
    assert "What was found in a2.png cannot be read" in answer.json()["error"]
    segment(page)
    assert page.post("/api/download", params={"formats": "index"}).status_code == 200


def test_a_failing_read_is_not_called_a_write(page: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = keys(page)["a0.png"]

    def failing(image: object) -> None:
        raise OSError(5, "Input/output error", "a0.png")

    with monkeypatch.context() as patch:
        patch.setattr("qgnet.web.images.read_image", failing)
        answer = page.get(f"/api/images/{key}/display.jpg")
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("a0.png could not be read or written (Input/output error)")
    paint(page, "a1.png", DISC)
    with monkeypatch.context() as patch:
        patch.setattr("qgnet.web.worker.read_image", failing)
        page.post("/api/segment", json={})
        page.app.state.workspace.worker.future.result(timeout=60)
    assert "could not be read or written" in page.app.state.workspace.worker.job["error"]
    (folder / "a0.png").unlink()
    for file in ("", "/display.jpg", "/thumbnail.jpg"):
        answer = page.get(f"/api/images/{key}{file}")
        assert (answer.status_code, "no longer in the folder" in answer.json()["error"]) == (404, True)


@pytest.mark.parametrize("moved", ["photographs", "photographs/.qgnet-page"])
def test_a_folder_that_is_taken_away_is_not_made_again(
    page: TestClient, folder: Path, tmp_path: Path, moved: str
) -> None:
    paint(page, "a0.png", DISC)
    segment(page)
    before, key = page.get("/api/session").json(), keys(page)["a1.png"]
    settings = {"classes": [{"number": 1, "name": "disc"}]}
    (tmp_path / moved).rename(tmp_path / "elsewhere")
    for answer in (
        page.put("/api/settings", json=settings),
        page.put(f"/api/images/{key}/mask.png", params={"support": True}, content=as_png(DISC)),
        page.delete(f"/api/images/{key}/mask.png"),
        page.post("/api/images", content=as_png(DISC)),
        page.get(f"/api/images/{key}/display.jpg"),
    ):
        assert answer.status_code == 422, answer.text
        assert "is gone. Put it back" in answer.json()["error"]
    page.post("/api/segment", json={})
    page.app.state.workspace.worker.future.result(timeout=60)
    assert "is gone. Put it back" in page.app.state.workspace.worker.job["error"]
    assert not (tmp_path / moved).exists()
    (tmp_path / "elsewhere").rename(tmp_path / moved)
    assert page.get("/api/session").json() == before
    assert page.put("/api/settings", json=settings).status_code == 200
