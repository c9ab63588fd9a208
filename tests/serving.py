"""A small folder of images, and a client that asks the server of ``qgnet serve`` as its page does; with fixtures."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from qgnet.inference.segmenter import Segmenter
from qgnet.web.server import make_app

ORIGIN = {"origin": "http://127.0.0.1"}
ROWS, COLUMNS = np.mgrid[:40, :60]
DISC = ((ROWS - 20) ** 2 + (COLUMNS - 25) ** 2 < 120).astype(np.uint8)


def write_scenes(folder: Path, count: int = 3) -> Path:
    """``a0.png`` … of a red disc on green, each brighter than the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = np.where(DISC[..., None], (180 + 10 * i, 30, 40), (30, 150, 60)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"a{i}.png")
    return folder


def browser(folder: Path, segmenter: Segmenter, **options: str | None) -> TestClient:
    """A client that sends what the page sends."""
    app = make_app(folder, segmenter, **options)
    return TestClient(app, base_url="http://127.0.0.1", headers=ORIGIN, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(image_size=65, device="cpu", presence=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_scenes(tmp_path / "photographs")


@pytest.fixture
def page(folder: Path, segmenter: Segmenter) -> Iterator[TestClient]:
    with browser(folder, segmenter) as client:
        yield client


def keys(page: TestClient) -> dict[str, str]:
    return {one["name"]: one["key"] for one in page.get("/api/session").json()["images"]}


def as_png(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(file, format="PNG")
    return file.getvalue()


def paint(page: TestClient, name: str, mask: np.ndarray, support: bool = True) -> dict:
    path = f"/api/images/{keys(page)[name]}/mask.png"
    answer = page.put(path, params={"support": support}, content=as_png(mask))
    assert answer.status_code == 200, answer.text
    return answer.json()


def segment(page: TestClient, first: str = "") -> dict[str, dict]:
    """Run, wait for the end, and give the outcomes by name."""
    assert page.post("/api/segment", json={"first": first}).status_code == 200
    page.app.state.workspace.worker.future.result(timeout=60)
    assert page.app.state.workspace.worker.job["error"] == ""
    return {one["name"]: one["outcome"] for one in page.get("/api/session").json()["images"]}


def unzipped(answer: object) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(answer.content))
