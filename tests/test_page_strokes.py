"""The page of ``qgnet serve`` in a real browser: rough strokes, and what they are grown to."""

from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import SIZE, WAIT, mask_of, opened, ready, saved, served, strip_item, stroke
from playwright.sync_api import Browser, Page, expect
from serving import DISC, write_scenes

from qgnet.inference.segmenter import Segmenter

pytest_plugins = ["browsing"]


def overlap(mask: np.ndarray) -> float:
    return ((mask == 1) & (DISC == 1)).sum() / ((mask == 1) | (DISC == 1)).sum()


def mark(page: Page) -> None:
    """A stroke on the disc, and two beside it."""
    stroke(page, SIZE, (20, 20), (30, 20))
    page.get_by_role("button", name="Paint background").click()
    stroke(page, SIZE, (5, 3), (55, 3))
    stroke(page, SIZE, (50, 10), (50, 35))
    page.get_by_role("button", name="Paint object").click()


def test_a_stroke_is_snapped_left_taken_and_undone(chromium: Browser, network: Segmenter, tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "photographs", 2)
    with served(folder, network) as server, opened(chromium, server) as page:
        page.click("#snap")
        expect(page.get_by_role("alert")).to_contain_text("Paint a rough stroke of object first")
        stroke(page, SIZE, (20, 20), (30, 20))
        saved(page)
        before = mask_of(folder)
        for leave in (
            lambda: page.keyboard.press("Escape"),
            lambda: page.click("#grown-leave"),
            lambda: page.click("#undo"),
            lambda: strip_item(page, "a1.png").click(),
        ):
            page.click("#snap")
            expect(page.locator("#grown")).to_be_visible()
            expect(page.get_by_role("alert")).to_be_empty()
            leave()
            expect(page.locator("#grown")).to_be_hidden()
            if page.locator("#redo").is_enabled():
                page.click("#redo")
        saved(page)
        strip_item(page, "a0.png").click()
        ready(page)
        expect(page.locator("#about")).to_contain_text("a0.png")
        assert np.array_equal(mask_of(folder), before)
        page.focus("#stage")
        page.keyboard.press("g")
        expect(page.locator("#grown-take")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#grown")).to_be_hidden()
        saved(page)
        assert overlap(mask_of(folder)) > 0.95
        page.keyboard.press("g")
        expect(page.get_by_role("alert")).to_contain_text("nothing to grow")
        page.keyboard.press("Control+z")
        saved(page)
        assert np.array_equal(mask_of(folder), before)
        page.keyboard.press("Control+y")
        saved(page)
        assert overlap(mask_of(folder)) > 0.95


def test_unpainted_is_unknown(chromium: Browser, network: Segmenter, tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "photographs", 3)
    with served(folder, network) as server, opened(chromium, server) as page:
        expect(page.locator("#classes .label")).to_have_text("ignored")
        page.get_by_role("radio", name="unknown").click()
        expect(page.locator("#classes .label")).to_have_text("background")
        expect(page.locator("#about")).to_contain_text("some on the background")
        mark(page)
        saved(page)
        assert {0, 1, 255} == set(np.unique(mask_of(folder)))
        page.click("#segment")
        expect(page.locator("#status")).to_have_text("All 3 done", timeout=WAIT)
        page.reload()
        ready(page)
        strip_item(page, "a0.png").click()
        expect(page.get_by_role("radio", name="unknown")).to_have_attribute("aria-checked", "true")
        expect(page.locator("#classes .label")).to_have_text("background")
        strip_item(page, "a1.png").click()  # nothing is painted there, and the page is new
        expect(page.get_by_role("radio", name="unknown")).to_have_attribute("aria-checked", "false")
        strip_item(page, "a0.png").click()
        expect(page.get_by_role("radio", name="unknown")).to_have_attribute("aria-checked", "true")
        page.click("#snap")
        page.click("#grown-take")
        saved(page)
        assert overlap(mask_of(folder)) > 0.95
        page.get_by_role("radio", name="background", exact=True).click()
        saved(page)
        page.click("#segment")
        expect(page.locator("#status")).to_have_text("All 2 done", timeout=WAIT)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_accessible_while_a_stroke_is_grown(
    chromium: Browser, network: Segmenter, tmp_path: Path, scheme: str, width: int
) -> None:
    folder = write_scenes(tmp_path / "photographs", 1)
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 844}}
    with served(folder, network) as server, opened(chromium, server, **options) as page:
        page.get_by_role("radio", name="unknown").click()
        page.evaluate("() => window.scrollTo(0, 0)")
        stroke(page, SIZE, (20, 20), (30, 20))
        page.click("#snap")
        expect(page.locator("#grown")).to_be_visible()
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        tools = page.locator("#tools")
        assert tools.evaluate("(one) => one.scrollWidth <= one.clientWidth")
        serious = [v for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
        assert not serious, [(v["id"], [node["html"] for node in v["nodes"]]) for v in serious]
