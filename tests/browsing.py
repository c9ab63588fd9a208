"""The page of ``qgnet serve`` in a real browser: how to open it, and to paint on it as a user does."""

import hashlib
import io
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import uvicorn
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from qgnet.commands.serve import address, listening
from qgnet.inference.segmenter import Segmenter
from qgnet.web.server import make_app

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAIT = 60_000
SIZE = (40, 60)
"""Of the images of `write_scenes`."""


@contextmanager
def installed_browser() -> Iterator[Browser]:
    """Chromium; the test is skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium on the PATH to test the page in (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with installed_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def network() -> Segmenter:
    return Segmenter(image_size=65, device="cpu", presence=0)


@contextmanager
def served(folder: Path, network: Segmenter, port: int = 0, token: str = "token") -> Iterator[str]:
    """The address of a server of this process."""
    app = make_app(folder, network, token=token)
    listener = listening("127.0.0.1", port)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield address(listener, "127.0.0.1", token)
    finally:
        server.should_exit = True
        app.state.workspace.worker.close_events()
        thread.join()


@contextmanager
def opened(browser: Browser, address: str, allowed: str = "^$", **options: object) -> Iterator[Page]:
    """The page with its first image; nothing but what is allowed may appear in the console."""
    context = browser.new_context(accept_downloads=True, **options)
    page = context.new_page()
    page.set_default_timeout(WAIT)
    said = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    ready(page)
    yield page
    assert not [text for text in said if not re.search(allowed, text)]
    context.close()


def ready(page: Page) -> None:
    expect(page.locator("#about")).to_contain_text("px", timeout=WAIT)


def saved(page: Page) -> None:
    expect(page.locator("#status")).to_have_text(re.compile("Saved|done"), timeout=WAIT)


def strip_item(page: Page, name: str) -> Locator:
    return page.locator("#strip li").filter(has=page.get_by_text(name, exact=True))


def on_screen(page: Page, size: tuple[int, int], x: float, y: float) -> tuple[float, float]:
    """Where the point (x, y) of the whole image of (height, width) is seen: in the middle of the canvas, fitted."""
    box = page.locator("#stage").bounding_box()
    scale = min(box["width"] / size[1], box["height"] / size[0])
    left, top = box["x"] + (box["width"] - size[1] * scale) / 2, box["y"] + (box["height"] - size[0] * scale) / 2
    return left + x * scale, top + y * scale


def stroke(page: Page, size: tuple[int, int], *points: tuple[float, float], button: str = "left") -> None:
    places = [on_screen(page, size, *point) for point in points]
    page.mouse.move(*places[0])
    page.mouse.down(button=button)
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up(button=button)


def shown(page: Page, size: tuple[int, int], x: float, y: float) -> tuple[int, ...]:
    """The colour that is seen there."""
    page.wait_for_timeout(100)  # the next frame
    left, top = on_screen(page, size, x, y)
    clip = {"x": left - 1, "y": top - 1, "width": 3, "height": 3}
    return Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB").getpixel((1, 1))


def mask_of(folder: Path, name: str = "a0.png") -> np.ndarray:
    """What is kept of an image's mask."""
    key = hashlib.sha256(name.encode()).hexdigest()[:16]
    return np.asarray(Image.open(folder / f".qgnet-page/masks/{key}.png"))
