"""The page of ``qgnet serve`` in a real browser: other keyboards, other screens, palms, and masks that are broken."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browsing import (
    SIZE,
    WAIT,
    installed_browser,
    mask_of,
    on_screen,
    opened,
    picture,
    saved,
    served,
    shown,
    stroke,
)
from playwright.sync_api import Browser, expect
from serving import write_scenes

from qgnet.segmenting.segmenter import Segmenter

RED = (180, 30, 40)
"""Of the disc in the first picture."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with installed_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def network() -> Segmenter:
    return Segmenter(image_size=65, device="cpu", presence=0)


def test_shortcuts_of_other_keyboards(chromium: Browser, network: Segmenter, tmp_path: Path) -> None:
    """Cyrillic: the letter's place on the keyboard counts. French: the letter itself, not its place."""
    folder = write_scenes(tmp_path / "photographs", 2)
    with served(folder, network) as server, opened(chromium, server) as page:
        keyboard = page.context.new_cdp_session(page)

        def press(key: str, code: str, ctrl: bool = False, shift: bool = False) -> None:
            pressed = {"key": key, "code": code, "modifiers": 2 * ctrl + 8 * shift}
            keyboard.send("Input.dispatchKeyEvent", {"type": "keyDown", **pressed})
            keyboard.send("Input.dispatchKeyEvent", {"type": "keyUp", **pressed})

        def tool() -> str:
            return page.evaluate("document.querySelector('[data-tool][aria-checked=true]').dataset.tool")

        stroke(page, SIZE, (20, 20), (30, 20))
        saved(page)
        for undo, redo in (
            (("я", "KeyZ"), ("н", "KeyY")),
            (("я", "KeyZ"), ("Я", "KeyZ")),
            (("z", "KeyW"), ("y", "KeyY")),
        ):
            press(*undo, ctrl=True)
            expect(page.locator("#undo")).to_be_disabled()
            press(*redo, ctrl=True, shift=redo[0] == "Я")
            expect(page.locator("#undo")).to_be_enabled()
        press("w", "KeyZ", ctrl=True)
        expect(page.locator("#undo")).to_be_enabled()
        for key, code, chosen in (("у", "KeyE", "eraser"), ("и", "KeyB", "brush"), ("ש", "KeyA", "brush")):
            press(key, code)
            assert tool() == chosen
        size = page.locator("#size").input_value()
        press("х", "BracketLeft")
        assert page.locator("#size").input_value() != size
        press("ю", "Period")
        expect(picture(page, "a1.png")).to_have_attribute("aria-selected", "true")
        page.click("#add-class")
        page.focus("#stage")
        press("١", "Digit1")
        expect(page.locator("#classes .pick").first).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1.25)])
def test_another_pixel_ratio(
    chromium: Browser, network: Segmenter, tmp_path: Path, before: float, after: float
) -> None:
    """The window is moved to another screen: nothing of the page's size in CSS pixels changes."""
    folder = write_scenes(tmp_path / "photographs", 1)
    view = {"width": 1000, "height": 700}
    with (
        served(folder, network) as server,
        opened(chromium, server, viewport=view, device_scale_factor=before) as page,
    ):
        screen = page.context.new_cdp_session(page)
        screen.send("Emulation.setDeviceMetricsOverride", {**view, "deviceScaleFactor": after, "mobile": False})
        page.wait_for_timeout(500)
        stroke(page, SIZE, (18, 20), (22, 20))
        saved(page)
        assert np.abs(np.argwhere(mask_of(folder)).mean(axis=0) + 0.5 - (20, 20)).max() < 1
        for x, y, is_red in ((34, 20, True), (38, 20, False), (25, 11, True), (25, 7, False), (20, 20, False)):
            assert (np.abs(np.subtract(shown(page, SIZE, x, y), RED)).max() < 12) == is_red, (x, y)  # where it lies


@pytest.mark.parametrize("palm_first", [False, True])
def test_the_palm_of_the_hand_that_draws(
    chromium: Browser, network: Segmenter, tmp_path: Path, palm_first: bool
) -> None:
    folder = write_scenes(tmp_path / "photographs", 1)
    with served(folder, network) as server, opened(chromium, server, has_touch=True) as page:
        device = page.context.new_cdp_session(page)

        def pen(kind: str, x: float, y: float) -> None:
            place = dict(zip("xy", on_screen(page, SIZE, x, y), strict=True))
            held = {"pointerType": "pen", "button": "left", "buttons": 1, "force": 0.5, "clickCount": 1}
            device.send("Input.dispatchMouseEvent", {"type": kind, **place, **held})

        def palm(kind: str, *points: tuple[float, float]) -> None:
            places = [dict(zip("xy", on_screen(page, SIZE, *point), strict=True)) for point in points]
            device.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

        if palm_first:
            palm("touchStart", (50, 35))
        pen("mousePressed", 20, 20)
        pen("mouseMoved", 25, 20)
        if not palm_first:
            palm("touchStart", (50, 35))
        palm("touchMove", (52, 33))
        pen("mouseMoved", 30, 20)
        palm("touchEnd")
        pen("mouseMoved", 40, 20)
        pen("mouseReleased", 40, 20)
        expect(page.locator("#undo")).to_be_enabled()
        saved(page)
        mask = mask_of(folder)
        assert mask[20, 20:40].all()
        assert not mask[28:].any()  # the palm left no paint
        page.click("#undo")
        expect(page.locator("#undo")).to_be_disabled()  # one stroke it was


def test_a_mask_that_cannot_be_read_can_be_cleared(chromium: Browser, network: Segmenter, tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "photographs", 2)
    with served(folder, network) as server, opened(chromium, server, allowed="422") as page:
        stroke(page, SIZE, (20, 20), (30, 20))
        saved(page)
        (mask,) = (folder / ".qgnet-page/masks").iterdir()
        mask.write_bytes(mask.read_bytes()[:40])
        page.reload()
        expect(page.locator(".notice")).to_contain_text("The painted mask of a0.png cannot be read", timeout=WAIT)
        expect(page.locator("#trouble")).to_be_hidden()
        page.click("#clear")
        expect(picture(page, "a0.png").locator(".badge")).to_have_text("")
        assert not mask.exists()


def test_a_class_that_was_painted_just_now_is_not_taken_out(
    chromium: Browser, network: Segmenter, tmp_path: Path
) -> None:
    folder = write_scenes(tmp_path / "photographs", 2)
    with served(folder, network) as server, opened(chromium, server, allowed="422") as page:
        page.click("#add-class")
        stroke(page, SIZE, (20, 20), (30, 20))
        page.get_by_role("button", name="Take out class 2").click()  # before the stroke is kept
        expect(page.locator(".notice")).to_contain_text("The class 'class 2' is painted in a picture")
        saved(page)
        assert mask_of(folder)[20, 25] == 2
        page.click("#clear")
        page.get_by_role("button", name="Take out class 2").click()
        expect(page.locator("#classes input")).to_have_count(1)
        kept = json.loads((folder / ".qgnet-page/session.json").read_text())
        assert [one["number"] for one in kept["settings"]["classes"]] == [1]
