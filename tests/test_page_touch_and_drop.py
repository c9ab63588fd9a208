"""The page of ``qgnet serve`` in a real browser: fingers and pens, dropped images, and a server that goes away."""

from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from browsing import (
    SIZE,
    WAIT,
    mask_of,
    on_screen,
    opened,
    ready,
    saved,
    served,
    shown,
    strip_item,
    stroke,
)
from playwright.sync_api import Browser, Page, expect
from serving import write_scenes

from qgnet.inference.segmenter import Segmenter

pytest_plugins = ["browsing"]


def test_one_finger_paints_and_two_zoom(chromium: Browser, network: Segmenter, tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "photographs")
    options = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with served(folder, network) as server, opened(chromium, server, **options) as page:
        fingers = page.context.new_cdp_session(page)

        def touch(kind: str, *points: tuple[float, float]) -> None:
            places = [dict(zip("xy", on_screen(page, SIZE, *point), strict=True)) for point in points]
            fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

        touch("touchStart", (20, 20))
        touch("touchMove", (30, 20))
        touch("touchEnd")
        saved(page)
        painted = mask_of(folder)
        assert painted[20, 20:30].all()
        before = shown(page, SIZE, 40, 25)
        touch("touchStart", (28, 20))
        touch("touchStart", (28, 20), (22, 20))
        touch("touchMove", (45, 20), (5, 20))
        touch("touchEnd")
        saved(page)
        assert np.array_equal(mask_of(folder), painted)  # two fingers leave no paint
        assert shown(page, SIZE, 40, 25) != before


def test_a_pen_paints(chromium: Browser, network: Segmenter, tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "photographs", 1)
    with served(folder, network) as server, opened(chromium, server) as page:
        pen = page.context.new_cdp_session(page)
        page.evaluate("""() => document.querySelector("#stage").addEventListener("pointerdown", (event) => {
            window.used = event.pointerType;
        })""")
        for kind, point in (("mousePressed", (20, 20)), ("mouseMoved", (30, 20)), ("mouseReleased", (30, 20))):
            place = dict(zip("xy", on_screen(page, SIZE, *point), strict=True))
            of_pen = {"pointerType": "pen", "button": "left", "buttons": 1, "force": 0.5, "clickCount": 1}
            pen.send("Input.dispatchMouseEvent", {"type": kind, **place, **of_pen})
        saved(page)
        assert page.evaluate("window.used") == "pen"
        assert mask_of(folder)[20, 20:30].all()


def drop(page: Page, *files: Path) -> None:
    """Drag files from elsewhere onto the middle of the page, as the browser itself tells it, and let them go."""
    drag = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver"):
        drag.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data})
    expect(page.locator("#drop")).to_be_visible()
    drag.send("Input.dispatchDragEvent", {"type": "drop", "x": 300, "y": 300, "data": data})
    expect(page.locator("#drop")).to_be_hidden()


def test_dropped_and_broken_images_and_an_empty_folder(chromium: Browser, network: Segmenter, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    others = write_scenes(tmp_path / "others", 2)
    (others / "no image.png").write_text("text")
    with served(folder, network) as server:
        context = chromium.new_context()
        page = context.new_page()
        page.goto(server)
        expect(page.get_by_text("No images here yet")).to_be_visible(timeout=WAIT)
        drop(page, others / "no image.png", others / "a0.png")
        expect(page.locator(".notice")).to_contain_text("no image.png was not taken")
        expect(page.locator("#strip li")).to_have_count(1)
        ready(page)
        page.set_input_files("#files", [others / "a1.png"])
        expect(page.locator("#strip li")).to_have_count(2)
        assert len(list((folder / "dropped").iterdir())) == 2
        (folder / "broken.jpg").write_bytes(b"nothing")
        page.reload()
        strip_item(page, "broken.jpg").click()
        expect(page.locator("#trouble")).to_contain_text("cannot be decoded")
        page.click("#segment")
        expect(page.locator(".notice")).to_contain_text("Nothing is painted yet")
        context.close()


def test_a_server_that_ends_is_told_and_nothing_is_lost(chromium: Browser, network: Segmenter, tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "photographs")
    with ExitStack() as after:
        with served(folder, network) as server:
            allowed = "ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|401|MIME type"
            page = after.enter_context(opened(chromium, server, allowed))
            port = urlsplit(server).port
        expect(page.locator(".notice[data-kind=lost]")).to_be_visible(timeout=WAIT)
        stroke(page, SIZE, (20, 20), (30, 20))
        expect(page.locator(".notice[data-kind=save]")).to_contain_text("Not saved")
        after.enter_context(served(folder, network, port, token="another"))
        lost = page.locator(".notice[data-kind=lost]")
        expect(lost).to_contain_text("Open the whole address that `qgnet serve` printed", timeout=WAIT)
        expect(page.locator(".notice[data-kind=save]")).to_contain_text("The token is missing")
        other = page.context.new_page()
        other.goto(f"http://127.0.0.1:{port}/?token=another")
        ready(other)
        expect(page.locator(".notice")).to_have_count(0, timeout=WAIT)
        saved(page)
        assert mask_of(folder)[20, 20:30].all()
