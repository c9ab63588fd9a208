"""The server of ``qgnet serve``: runs while the user goes on working."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from time import sleep

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from serving import DISC, as_png, browser, keys, paint, segment, unzipped

from qgnet.inference.segmenter import Segmenter
from qgnet.outputs.formats import write_grey
from qgnet.web.session_file import Settings

pytest_plugins = ["serving"]


def classes(*names: str) -> dict:
    return {"classes": [{"number": number, "name": name} for number, name in enumerate(names, start=1) if name]}


def during_a_run(page: TestClient, monkeypatch: pytest.MonkeyPatch, *settings: dict) -> dict[str, dict]:
    """The outcomes of a run in which the settings are changed before the second image is segmented."""
    prepare, seen = Segmenter.prepare, []

    def changing(*arguments: object) -> object:
        seen.append(arguments)
        if len(seen) == 2:
            for one in settings:
                page.app.state.workspace.session.set(Settings(**one))
        return prepare(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Segmenter, "prepare", changing)
        return segment(page)


def test_a_class_is_renamed_while_a_run_goes_on(
    page: TestClient, segmenter: Segmenter, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(page, "a0.png", DISC)
    before = segment(page)
    after = during_a_run(page, monkeypatch, classes("disc"))
    for name in ("a1.png", "a2.png"):
        assert after[name] == before[name]
        assert page.get(f"/api/images/{keys(page)[name]}/1/probability.png").status_code == 200
    with unzipped(page.post("/api/download", params={"formats": ["index", "coco"]})) as archive:
        assert {"a0.png", "a1.png", "a2.png"} <= set(archive.namelist())
        assert archive.read("classes.txt") == b"disc\n"
    with browser_again(page, folder, segmenter) as again:
        assert {one["name"]: one["outcome"] for one in again.get("/api/session").json()["images"]} == after


def browser_again(page: TestClient, folder: Path, segmenter: Segmenter) -> TestClient:
    page.app.state.workspace.close()
    return browser(folder, segmenter)


def test_a_number_that_is_given_again_has_nothing_of_the_class_before(
    page: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.put("/api/settings", json=classes("a", "b"))
    paint(page, "a0.png", DISC + 2 * (np.arange(60) > 40))
    assert segment(page)["a1.png"]["scores"].keys() == {"1", "2"}
    paint(page, "a0.png", DISC)
    key = keys(page)["a1.png"]
    for changes in (classes("a"), classes("a", "new")):
        assert page.put("/api/settings", json=changes).status_code == 200
        session = page.get("/api/session").json()
        assert [one["outcome"]["scores"].keys() for one in session["images"][1:]] == [{"1"}, {"1"}]
        assert session["learnt"].keys() == {"1"}
        for kind in ("probability", "guided"):
            assert page.get(f"/api/images/{key}/2/{kind}.png").status_code == 404
    paint(page, "a1.png", DISC * 2)
    page.app.state.workspace.session.clear(key)  # so that the class may be taken out while a run goes on
    paint(page, "a1.png", DISC * 2)
    fit = page.app.state.workspace.worker.segmenter.fit

    def cleared(*arguments: object) -> object:
        page.app.state.workspace.session.clear(key)
        return fit(*arguments)

    monkeypatch.setattr(page.app.state.workspace.worker.segmenter, "fit", cleared)
    outcomes = during_a_run(page, monkeypatch, classes("a"), classes("a", "new"))
    assert outcomes["a2.png"]["scores"].keys() == {"1"}


def test_a_stopped_run_that_waits_does_not_begin(page: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    work, fits, go_on, begun = page.app.state.workspace, [], Event(), Event()
    fit = work.worker.segmenter.fit

    def slow(supports: object) -> object:
        fits.append(supports)
        begun.set()
        assert go_on.wait(timeout=60)
        return fit(supports)

    monkeypatch.setattr(work.worker.segmenter, "fit", slow)
    paint(page, "a0.png", DISC)
    for _ in range(4):
        assert page.post("/api/segment", json={}).status_code == 200
        assert begun.wait(timeout=60)
    assert page.delete("/api/segment").status_code == 200
    go_on.set()
    work.worker.future.result(timeout=60)
    assert len(fits) == 1
    assert not work.worker.job["running"]
    assert [one["outcome"] for one in page.get("/api/session").json()["images"]] == [None, None, None]
    assert work.session.state.run == 0  # what was found before is not called old by a run that found nothing
    assert segment(page)["a1.png"]["scores"]
    assert len(fits) == 2


def test_an_image_that_is_exchanged_while_it_is_segmented(
    page: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(page, "a0.png", DISC)
    prepare = Segmenter.prepare

    def exchanging(*arguments: object) -> object:
        Image.new("RGB", (30, 20)).save(folder / "a2.png")
        return prepare(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Segmenter, "prepare", exchanging)
        outcomes = segment(page)
    assert outcomes["a2.png"] is None
    assert outcomes["a1.png"]["scores"]


def test_a_class_is_not_taken_out_while_it_is_painted(page: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are asked for at once: whichever comes second is refused, and all goes on."""
    page.put("/api/settings", json=classes("a", "b"))
    session, key = page.app.state.workspace.session, keys(page)["a0.png"]
    mask, taken_out = np.roll(DISC * 2, 3), []
    with ThreadPoolExecutor(1) as other:

        def meanwhile(*arguments: object) -> None:
            taken_out.append(other.submit(page.put, "/api/settings", json=classes("a")))
            sleep(0.3)
            write_grey(*arguments)

        monkeypatch.setattr("qgnet.web.session.write_grey", meanwhile)
        answer = page.put(f"/api/images/{key}/mask.png", params={"support": True}, content=as_png(mask))
        assert answer.status_code == 200
        refused = taken_out[0].result(timeout=60)
    assert "painted in an image" in refused.json()["error"]
    assert page.put("/api/settings", json=classes("a", "c")).status_code == 200
    assert session.names == {1: "a", 2: "c"}


def test_a_painted_number_without_a_class_does_not_stop_the_settings(folder: Path, segmenter: Segmenter) -> None:
    with browser(folder, segmenter) as page:
        paint(page, "a0.png", DISC)
    file = folder / ".qgnet-page/session.json"
    kept = json.loads(file.read_text())
    kept["settings"] = {"classes": [{"number": 2, "name": "b"}]}
    file.write_text(json.dumps(kept))
    with browser(folder, segmenter) as page:
        for entries in ([{"number": 3, "name": "c"}], [{"number": 3, "name": "c"}, {"number": 1, "name": "a"}]):
            assert page.put("/api/settings", json={"classes": entries}).status_code == 200
        assert segment(page)["a1.png"]["scores"].keys() == {"1"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"thresholds": {"1": 5}},
        {"thresholds": {"1": -3}},
        {"thresholds": {"1": 0}},
        {"thresholds": {"0": 0.5}},
        {"thresholds": {"100": 0.5}},
        {"thresholds": {"x": 0.5}},
        {"classes": []},
        {"classes": [{"number": 0, "name": "a"}]},
        {"classes": [{"number": 100, "name": "a"}]},
        {"classes": [{"number": 1, "name": "a\nb"}]},
        {"classes": [{"number": 1, "name": "  "}]},
        {"classes": [{"number": 1, "name": "a" * 61}]},
    ],
)
def test_settings_out_of_range_are_refused(page: TestClient, wrong: dict) -> None:
    answer = page.put("/api/settings", json={**classes("a"), **wrong})
    assert answer.status_code == 422
    assert answer.json()["error"]


def test_a_threshold_that_is_no_number_is_refused(page: TestClient) -> None:
    content = '{"classes": [{"number": 1, "name": "a"}], "thresholds": {"1": NaN}}'
    assert page.put("/api/settings", content=content, headers={"content-type": "application/json"}).status_code == 422


def test_six_requests_for_one_image_at_once(page: TestClient, folder: Path) -> None:
    large = Image.open(folder / "a0.png").resize((1200, 800))
    for i in range(4):
        large.save(folder / f"b{i}.png")
    key = keys(page)
    with ThreadPoolExecutor(6) as browsers:
        for i in range(4):
            path = f"/api/images/{key[f'b{i}.png']}/thumbnail.jpg"
            answers = list(browsers.map(page.get, [path] * 6))
            assert [answer.status_code for answer in answers] == [200] * 6
