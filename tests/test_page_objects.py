"""The page of ``qgnet serve`` in a real browser: single objects are counted, and outlined where they touch."""

import json
import zipfile
from pathlib import Path

import numpy as np
from browsing import SIZE, WAIT, opened, saved, served, shown, strip_item, stroke
from PIL import Image
from playwright.sync_api import Browser, expect
from serving import COLUMNS, ROWS, write_scenes

from qgnet.inference.segmenter import Segmenter
from qgnet.outputs import CLASS_COLOURS

pytest_plugins = ["browsing"]


def blobs(folder: Path) -> None:
    """``b.png``: two red discs that touch, on green."""
    mask = np.logical_or(*((ROWS - 20) ** 2 + (COLUMNS - x) ** 2 < 100 for x in (20, 38)))
    Image.fromarray(np.where(mask[..., None], (190, 30, 40), (30, 150, 60)).astype(np.uint8)).save(folder / "b.png")


def test_counted_and_outlined(chromium: Browser, network: Segmenter, tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "photographs", 1)
    blobs(folder)
    with served(folder, network) as server, opened(chromium, server, viewport={"width": 1280, "height": 800}) as page:
        about = page.locator("#about")
        strip_item(page, "b.png").click()
        expect(about).to_contain_text("b.png")
        for _ in range(4):
            page.keyboard.press("]")
        stroke(page, SIZE, (14, 14), (14, 26))
        expect(about).to_contain_text("Single objects: 1.")
        stroke(page, SIZE, (44, 14), (44, 26))
        expect(about).not_to_contain_text("Single objects")
        expect(about).to_contain_text("Single objects: 2.")
        page.keyboard.press("Control+z")
        expect(about).to_contain_text("Single objects: 1.")
        saved(page)
        page.locator("#add-class").click()
        stroke(page, SIZE, (44, 14), (44, 26))
        expect(about).to_contain_text("Single objects: object 1, class 2 1.")


def test_the_cut_is_seen_and_the_count_follows_the_threshold(
    chromium: Browser, network: Segmenter, tmp_path: Path
) -> None:
    folder = write_scenes(tmp_path / "photographs", 1)
    blobs(folder)
    with served(folder, network) as server, opened(chromium, server, viewport={"width": 1280, "height": 800}) as page:
        about = page.locator("#about")
        stroke(page, SIZE, (22, 18), (28, 22))
        saved(page)
        page.click("#segment")
        expect(page.locator("#status")).to_have_text("All 1 done", timeout=WAIT)
        strip_item(page, "b.png").click()
        expect(about).to_contain_text("Single objects:")
        slider = page.locator("#threshold")
        slider.evaluate("(node) => { node.value = 0.98; node.dispatchEvent(new Event('input', { bubbles: true })); }")
        expect(about).not_to_contain_text("Single objects")  # it is still moving
        page.wait_for_timeout(600)
        expect(about).not_to_contain_text("Single objects")
        slider.dispatch_event("change")
        page.wait_for_timeout(600)
        page.click("#threshold-reset")
        expect(about).to_contain_text("Single objects:")


def test_objects_that_touch_are_outlined_and_downloaded(chromium: Browser, network: Segmenter, tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "photographs", 1)
    with served(folder, network) as server, opened(chromium, server, viewport={"width": 1280, "height": 800}) as page:
        for _ in range(30):
            page.keyboard.press("]")  # the largest brush, of a sixth of the image
        stroke(page, SIZE, (20, 20), (20, 20))
        stroke(page, SIZE, (38, 20), (38, 20))
        expect(page.locator("#about")).to_contain_text("Single objects: 2.")
        line = [shown(page, SIZE, x / 8, 20.5) for x in range(27 * 8, 31 * 8)]
        assert min(sum(abs(a - b) for a, b in zip(one, CLASS_COLOURS[0], strict=True)) for one in line) < 10
        with page.expect_download() as download:
            page.click("#download")
            page.get_by_role("checkbox", name="COCO").check()
            page.get_by_role("checkbox", name="Single objects").check()
            page.locator("#download-dialog button.primary").click()
        download.value.save_as(tmp_path / "masks.zip")
        with zipfile.ZipFile(tmp_path / "masks.zip") as archive:
            assert len(json.loads(archive.read("annotations.json"))["annotations"]) == 2
