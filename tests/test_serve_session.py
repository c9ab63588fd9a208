"""The server of ``qgnet serve``: what it keeps, whatever happens to it."""

import os
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from serving import DISC, browser, keys, paint, segment, unzipped

from qgnet.common.errors import InputError
from qgnet.inference.segmenter import Segmenter
from qgnet.web.server import make_app

pytest_plugins = ["serving"]


def test_a_killed_server_has_lost_nothing(folder: Path, segmenter: Segmenter) -> None:
    with browser(folder, segmenter) as page:
        paint(page, "a0.png", DISC)
        page.put("/api/settings", json={"classes": [{"number": 1, "name": "disc"}], "thresholds": {"1": 0.3}})
        segment(page)
        before = page.get("/api/session").json()
    with open(folder / ".qgnet-page/results.jsonl", "a") as log:
        log.write('["cut off by the ki')
    (folder / ".qgnet-page/.session.json.part").write_text('{"cut')
    with browser(folder, segmenter) as page:
        assert page.get("/api/session").json() == before


def test_a_full_disk_is_reported_and_changes_nothing(page: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(page, "a0.png", DISC)
    before = page.get("/api/session").json()

    def full(self: Path, *args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        answer = page.put("/api/settings", json={"classes": [{"number": 1, "name": "other"}]})
    assert answer.status_code == 507
    assert "No space left" in answer.json()["error"]
    assert page.get("/api/session").json() == before


def test_a_second_server_on_a_folder_is_refused(folder: Path, segmenter: Segmenter) -> None:
    with browser(folder, segmenter) as page:
        paint(page, "a0.png", DISC)
        with pytest.raises(InputError, match=rf"Another `qgnet serve` \(process {os.getpid()}\) works on"):
            make_app(folder, segmenter)
        assert segment(page)["a1.png"]
    with browser(folder, segmenter) as page:  # after the first has ended
        assert page.get("/api/session").status_code == 200


def test_a_run_that_breaks_off_leaves_what_was_found_before(
    folder: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with browser(folder, segmenter) as page:
        paint(page, "a0.png", DISC)
        before = segment(page)
        key = keys(page)
        found = page.get(f"/api/images/{key['a2.png']}/1/probability.png").content
        paint(page, "a0.png", np.roll(DISC, 12))

        def full(*arguments: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("qgnet.web.session.write_grey", full)
            page.post("/api/segment", json={"first": key["a1.png"]})
            page.app.state.workspace.worker.future.result(timeout=60)
        assert "No space left" in page.app.state.workspace.worker.job["error"]
        after = {one["name"]: one["outcome"] for one in page.get("/api/session").json()["images"]}
        assert after["a2.png"] == {**before["a2.png"], "stale": True}
    with browser(folder, segmenter) as page:
        again = {one["name"]: one["outcome"] for one in page.get("/api/session").json()["images"]}
        assert again == after
        assert page.get(f"/api/images/{key['a2.png']}/1/probability.png").content == found
        assert unzipped(page.post("/api/download", params={"formats": "index"})).testzip() is None
        outcomes = segment(page)
        assert not outcomes["a2.png"]["stale"]
        assert page.get(f"/api/images/{key['a2.png']}/1/probability.png").content != found
        assert len(list((folder / ".qgnet-page/results" / key["a2.png"]).iterdir())) == 1  # the earlier run's are gone
