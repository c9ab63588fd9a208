"""The page of ``qgnet serve`` in a real browser: other keyboards, other screens, palms, and masks that are broken."""

import json
from pathlib import Path

import numpy as np
import pytest
from browsing import (
    SIZE,
    WAIT,
    mask_of,
    on_screen,
    opened,
    ready,
    saved,
    served,
    strip_item,
    stroke,
)
from playwright.sync_api import Browser, expect
from serving import write_scenes

from qgnet.inference.segmenter import Segmenter

pytest_plugins = ["browsing"]

RED = (180, 30, 40)
"""Of the disc in the first image."""


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
        expect(strip_item(page, "a1.png")).to_have_attribute("aria-selected", "true")
        page.click("#add-class")
        page.focus("#stage")
        press("١", "Digit1")
        expect(page.locator("#classes .pick").first).to_have_attribute("aria-pressed", "true")


COLOUR = """([x, y]) => {
    const canvas = document.querySelector("#stage"), box = canvas.getBoundingClientRect();
    const at = [(x - box.left) * canvas.width / box.width, (y - box.top) * canvas.height / box.height];
    return [...canvas.getContext("2d").getImageData(...at, 1, 1).data];
}"""
"""What the stage shows at a point of the page; a screenshot would set the pixel ratio back."""
WATCHED = """() => {
    const real = window.matchMedia.bind(window);
    window.watched = new Map();
    window.matchMedia = (query) => window.watched.set(query, real(query)).get(query);
}"""


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1.25)])
@pytest.mark.parametrize("told", [False, True])
def test_another_pixel_ratio(
    chromium: Browser, network: Segmenter, tmp_path: Path, before: float, after: float, told: bool
) -> None:
    """The window is moved to another screen: nothing of the page's size in CSS pixels changes.

    Chromium without a screen does not tell the page of another ratio: this does it instead of it, or nothing does.
    """
    folder, view = write_scenes(tmp_path / "photographs", 1), {"width": 1000, "height": 700}
    with served(folder, network) as server:
        context = chromium.new_context(viewport=view, device_scale_factor=before)
        page = context.new_page()
        page.add_init_script(f"({WATCHED})()")
        page.goto(server)
        ready(page)
        screen = context.new_cdp_session(page)
        screen.send("Emulation.setDeviceMetricsOverride", {**view, "deviceScaleFactor": after, "mobile": False})
        if told:
            change = f"window.watched.get('(resolution: {before}dppx)').dispatchEvent(new Event('change'))"
            page.evaluate(f"() => {change}")
            page.wait_for_timeout(100)
            ratio = page.evaluate("(({ width, clientWidth }) => width / clientWidth)(document.querySelector('#stage'))")
            assert ratio == pytest.approx(after, abs=0.01)
            assert f"(resolution: {after}dppx)" in page.evaluate("() => [...window.watched.keys()]")
        stroke(page, SIZE, (18, 20), (22, 20))
        saved(page)
        assert np.abs(np.argwhere(mask_of(folder)).mean(axis=0) + 0.5 - (20, 20)).max() < 1
        for x, y, is_red in ((33, 20, True), (39, 20, False), (25, 13, True), (25, 6, False), (20, 20, False)):
            colour = page.evaluate(COLOUR, on_screen(page, SIZE, x, y))[:3]
            assert (np.abs(np.subtract(colour, RED)).max() < 12) == is_red, (x, y, colour)  # where it lies
        context.close()


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
        expect(strip_item(page, "a0.png").locator(".badge")).to_have_text("")
        assert not mask.exists()


def test_a_class_that_was_painted_just_now_is_not_taken_out(
    chromium: Browser, network: Segmenter, tmp_path: Path
) -> None:
    folder = write_scenes(tmp_path / "photographs", 2)
    with served(folder, network) as server, opened(chromium, server, allowed="422") as page:
        page.click("#add-class")
        stroke(page, SIZE, (20, 20), (30, 20))
        page.get_by_role("button", name="Take out class 2").click()  # before the stroke is kept
        expect(page.locator(".notice")).to_contain_text("The class 'class 2' is painted in an image")
        saved(page)
        assert mask_of(folder)[20, 25] == 2
        page.click("#clear")
        page.get_by_role("button", name="Take out class 2").click()
        expect(page.locator("#classes input")).to_have_count(1)
        page.click("#add-class")
        expect(page.locator("#classes .facts").nth(1)).to_have_text("")
        page.get_by_role("button", name="Take out class 2").click()
        expect(page.locator("#classes input")).to_have_count(1)
        kept = json.loads((folder / ".qgnet-page/session.json").read_text())
        assert [one["number"] for one in kept["settings"]["classes"]] == [1]
