"""The server of ``qgnet serve``: what it gives and refuses."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image
from serving import DISC, as_png, browser, keys, paint, segment, unzipped, write_scenes
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from qgnet.inference.segmenter import Segmenter
from qgnet.tasks.segmentation import FewShotSegmentation
from qgnet.web import routes

pytest_plugins = ["serving"]


def test_one_painted_mask_finds_the_others_and_comes_back(page: TestClient, folder: Path, segmenter: Segmenter) -> None:
    painted = paint(page, "a0.png", DISC)
    assert painted["painted"] == {"support": True, "classes": [1], "rough": False}
    key = keys(page)
    back = np.asarray(Image.open(io.BytesIO(page.get(f"/api/images/{key['a0.png']}/mask.png").content)))
    assert np.array_equal(back, DISC)
    outcomes = segment(page, first=key["a2.png"])
    assert outcomes["a0.png"] is None
    assert 0 < outcomes["a1.png"]["scores"]["1"] <= 1
    truth = segmenter.fit({"object": [(folder / "a0.png", DISC)]}).predict(folder / "a1.png").segments["object"]
    answer = page.get(f"/api/images/{key['a1.png']}/1/probability.png")
    found = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert np.abs(found / 255 - truth.probability).max() < 0.01
    assert page.get(f"/api/images/{key['a1.png']}/1/guided.png").status_code == 200
    assert page.get(f"/api/images/{key['a1.png']}/1/prior.png").status_code == 404
    with unzipped(page.post("/api/download", params={"formats": ["index", "coco", "labelme"]})) as archive:
        mask = np.asarray(Image.open(archive.open("a1.png")))
        assert np.mean(mask == truth.mask) > 0.99
        assert np.array_equal(np.asarray(Image.open(archive.open("a0.png"))), DISC)
        assert len(json.loads(archive.read("annotations.json"))["images"]) == 3
        assert json.loads(archive.read("labelme/a0.json"))["imageWidth"] == 60


def test_pages_that_are_not_read_are_reported(page: TestClient, folder: Path) -> None:
    pages = [Image.open(folder / f"a{i}.png") for i in range(3)]
    pages[0].save(folder / "scan.tif", save_all=True, append_images=pages[1:])
    facts = {name: page.get(f"/api/images/{key}").json() for name, key in keys(page).items()}
    assert {name: fact["pages"] for name, fact in facts.items()} == {
        "scan.tif": 3,
        **{f"a{i}.png": 1 for i in range(3)},
    }


@pytest.mark.parametrize("has_prior", [True, False])
def test_the_prior_map_of_a_network_that_has_one(folder: Path, tmp_path: Path, has_prior: bool) -> None:
    settings = {"encoder": "test_resnet", "encoder_weights": "random", "width": 8, "levels": [1, 0.5]}
    settings |= {"prior_encoder": "test_resnet", "self_correspondence": has_prior}
    content = {"state_dict": FewShotSegmentation(**settings).state_dict(), "hyper_parameters": settings}
    torch.save({**content, "image_size": 65}, tmp_path / "qgnet.ckpt")
    with browser(folder, Segmenter(tmp_path / "qgnet.ckpt", device="cpu", presence=0)) as page:
        paint(page, "a0.png", DISC)
        assert segment(page)["a1.png"]["scores"]
        key = keys(page)["a1.png"]
        assert page.get("/api/session").json()["maps"] == (["guided", "prior"] if has_prior else ["guided"])
        assert page.get(f"/api/images/{key}/1/guided.png").status_code == 200
        answer = page.get(f"/api/images/{key}/1/prior.png")
        assert answer.status_code == (200 if has_prior else 404)
        if has_prior:
            prior = Image.open(io.BytesIO(answer.content))
            assert (prior.mode, prior.size) == ("L", (65, 43))  # of the image alone, without the padding below it


def test_a_threshold_needs_no_run(page: TestClient) -> None:
    paint(page, "a0.png", DISC)
    segment(page)
    areas = []
    for threshold in (0.02, 0.98):
        settings = {"classes": [{"number": 1, "name": "disc"}], "thresholds": {"1": threshold}}
        assert page.put("/api/settings", json=settings).status_code == 200
        with unzipped(page.post("/api/download", params={"formats": "index"})) as archive:
            areas.append(np.asarray(Image.open(archive.open("a1.png"))).sum())
            assert archive.read("classes.txt") == b"disc\n"
    assert areas[0] > areas[1]


def test_classes_keep_their_pixels(page: TestClient) -> None:
    both = {"classes": [{"number": 2, "name": "b"}, {"number": 1, "name": "a"}], "thresholds": {}}
    assert page.put("/api/settings", json=both).status_code == 200
    mask = np.where(np.arange(60) < 25, DISC * 1, DISC * 2)
    mask[0] = 255
    paint(page, "a0.png", mask)
    assert "painted in an image" in page.put("/api/settings", json={"classes": both["classes"][:1]}).json()["error"]
    assert page.put("/api/settings", json={"classes": both["classes"] * 2}).status_code == 422
    assert set(segment(page)["a1.png"]["scores"]) == {"1", "2"}
    with unzipped(page.post("/api/download", params={"formats": "index"})) as archive:
        exported = np.asarray(Image.open(archive.open("a0.png")))
    assert np.array_equal(exported[1:] == 1, mask[1:] == 2)  # the order of the list, not the numbers within


def test_what_cannot_be_painted(page: TestClient) -> None:
    path = f"/api/images/{keys(page)['a0.png']}/mask.png"
    for content, message in (
        (as_png(DISC[1:]), "60x39 px"),
        (as_png(DISC * 3), "number 3, which is no class"),
        (as_png(DISC * 0), "must show something"),
        (as_png(np.zeros((40, 60, 3))), "grey"),
        (b"<svg/>", "not a PNG"),
        (as_png(DISC)[:60], "not a PNG"),
    ):
        answer = page.put(path, params={"support": True}, content=content)
        assert answer.status_code == 422
        assert message in answer.json()["error"]
    assert page.get(path).status_code == 404
    assert "Nothing is painted yet" in page.post("/api/segment", json={}).json()["error"]
    assert "nothing to download" in page.post("/api/download", params={"formats": "index"}).json()["error"]
    assert page.post("/api/download", params={"formats": "../x"}).status_code == 422


def test_a_corrected_prediction_becomes_a_support(page: TestClient) -> None:
    paint(page, "a0.png", DISC)
    segment(page)
    paint(page, "a1.png", DISC, support=False)
    assert page.app.state.workspace.worker.session.state.painted.keys() == set(list(keys(page).values())[:2])
    segment(page)
    assert len(page.app.state.workspace.worker.segmenter.supports) == 1
    paint(page, "a1.png", DISC, support=True)
    outcomes = segment(page)
    assert len(page.app.state.workspace.worker.segmenter.supports) == 2
    assert outcomes["a2.png"]["scores"]
    page.delete(f"/api/images/{keys(page)['a1.png']}/mask.png")
    assert segment(page)["a1.png"]["scores"]


def test_images_that_cannot_be_read_do_not_end_a_run(page: TestClient, folder: Path) -> None:
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (folder / "a2.png").write_bytes((folder / "a2.png").read_bytes()[:90])
    paint(page, "a0.png", DISC)
    outcomes = segment(page)
    assert "cannot be decoded" in outcomes["broken.jpg"]["error"]
    assert outcomes["a2.png"]["error"]
    assert outcomes["a1.png"]["scores"]
    answer = page.get(f"/api/images/{keys(page)['broken.jpg']}/thumbnail.jpg")
    assert (answer.status_code, "cannot be decoded" in answer.json()["error"]) == (422, True)


def test_the_folder_is_gone(page: TestClient, folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    answer = page.get("/api/session")
    assert answer.status_code == 422
    assert "is gone" in answer.json()["error"]


def test_only_images_of_the_folder_are_served(folder: Path, segmenter: Segmenter, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    write_scenes(tmp_path / "others", 1)
    (folder / "link.png").symlink_to(secret)
    (folder / "linked").symlink_to(tmp_path / "others")
    with browser(folder, segmenter) as page:
        assert sorted(keys(page)) == ["a0.png", "a1.png", "a2.png"]
        key = keys(page)["a1.png"]
        (folder / "a1.png").unlink()
        (folder / "a1.png").symlink_to(secret)  # after the folder was searched
        for file in ("display.jpg", "thumbnail.jpg", ""):
            assert page.get(f"/api/images/{key}/{file}".rstrip("/")).status_code == 404
        for path in (
            "/..%2f..%2fsecret.png",
            "/%2e%2e/server.py",
            "//etc/passwd",
            "/api/images/..%2fsecret.png/display.jpg",
            f"/api/images/{secret}/display.jpg",
            f"/api/images/{key}/1/..%2f..%2fsession.png",
            "/server.py",
        ):
            assert page.get(path).status_code in (404, 405, 422), path


def test_images_are_dropped_under_made_up_names(
    page: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = "../../<img src=x onerror=alert(1)>.png"
    answer = page.post("/api/images", params={"name": hostile}, content=(folder / "a0.png").read_bytes())
    assert answer.status_code == 200
    assert answer.json()["name"] == hostile
    (stored,) = (folder / "dropped").iterdir()
    assert len(stored.stem) == 16
    assert stored.suffix == ".png"
    assert len(keys(page)) == 4
    for content, message in (
        (b"GIF89a", "cannot be decoded"),
        (b"<svg onload=alert(1)>", "format is unknown"),
        (b"", ""),
    ):
        answer = page.post("/api/images", params={"name": "x.png"}, content=content)
        assert answer.status_code == 422
        assert message in answer.json()["error"]
    monkeypatch.setattr("qgnet.web.images.MOST_PIXELS", 100)
    answer = page.post("/api/images", content=(folder / "a0.png").read_bytes())
    assert "at most 100 pixels" in answer.json()["error"]
    monkeypatch.setattr(routes, "MOST_BYTES", 100)
    assert page.post("/api/images", content=b"x" * 101).status_code == 413
    assert len(list((folder / "dropped").iterdir())) == 1
    assert not list((folder / ".qgnet-page/incoming").iterdir())


def test_foreign_pages_are_refused(page: TestClient) -> None:
    path = "/api/segment"
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:1"}):
        assert page.post(path, json={}, headers=headers).status_code == 403
    del page.headers["origin"]
    assert page.post(path, json={}).status_code == 403
    assert page.get("/api/session").status_code == 200
    assert page.get("/api/session", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    for host in ("evil.example", "127.0.0.1.evil.example", "", "10.0.0.1", "127.0.0.1:x", "[::1"):
        assert page.get("/", headers={"host": host}).status_code == 421
    assert page.get("/", headers={"host": "localhost:9000"}).status_code == 200
    answer = page.get("/")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == page.get("/app.js").headers["cache-control"] == "no-cache"
    assert page.get("/openapi.json").status_code == page.get("/docs").status_code == 404


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_nobody_comes_in_without_the_token(folder: Path, segmenter: Segmenter, host: str) -> None:
    with browser(folder, segmenter, host=host, token="right") as page:
        for path in ("/", "/app.js", "/api/session", "/?token=wrong", "/api/session?token=right"):
            assert page.get(path).status_code == 401
        assert page.get("/", headers={"host": "evil.example"}).status_code == 421
        answer = page.get("/?token=right", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert "HttpOnly" in answer.headers["set-cookie"]
        assert "samesite=strict" in answer.headers["set-cookie"].lower()
        assert page.get("/api/session").status_code == 200
        assert page.get("/api/session", headers={"host": "10.1.2.3"}).status_code == (200 if host == "0.0.0.0" else 421)


def test_without_a_token_other_machines_come_in_by_the_address(folder: Path, segmenter: Segmenter) -> None:
    with browser(folder, segmenter, host="0.0.0.0") as page:
        assert page.get("/api/session", headers={"host": "10.1.2.3"}).status_code == 200
        assert page.get("/api/session", headers={"host": "evil.example"}).status_code == 421


def test_what_is_not_http_is_refused(folder: Path, segmenter: Segmenter) -> None:
    with browser(folder, segmenter) as page:

        async def open_to_all(socket: WebSocket) -> None:
            await socket.accept()

        page.app.router.routes.insert(0, WebSocketRoute("/socket", open_to_all))
        with pytest.raises(WebSocketDisconnect), page.websocket_connect("/socket"):
            pass


def test_servers_on_two_ports_keep_their_tokens(segmenter: Segmenter, tmp_path: Path) -> None:
    """A browser keeps one set of cookies for all ports of a machine."""
    cookies: dict[str, str] = {}
    for port in ("8000", "8001"):
        with browser(write_scenes(tmp_path / port), segmenter, host="0.0.0.0", token=port) as page:
            page.headers["host"] = f"10.1.2.3:{port}"
            page.cookies.update(cookies)
            assert page.get(f"/?token={port}").status_code == 200
            cookies.update(page.cookies)
    assert cookies == {"qgnet-token-8000": "8000", "qgnet-token-8001": "8001"}
    with browser(tmp_path / "8000", segmenter, host="0.0.0.0", token="8000") as page:
        page.cookies.update(cookies)
        assert page.get("/api/session", headers={"host": "10.1.2.3:8000"}).status_code == 200
        assert page.get("/api/session", headers={"host": "10.1.2.3:8001"}).status_code == 401
