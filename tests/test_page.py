"""The page of ``qgnet serve`` in a real browser, with real events of mouse and keys."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
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
from PIL import Image
from playwright.sync_api import Browser, expect
from serving import write_scenes

from qgnet.inference.segmenter import Segmenter
from qgnet.outputs import CLASS_COLOURS, FORMATS
from qgnet.web.export import as_result

pytest_plugins = ["browsing"]

HOSTILE = "<img src=x onerror=document.title='hit'>&\"'.png"


def test_paint_segment_correct_download_reload(chromium: Browser, network: Segmenter, tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "photographs")
    with served(folder, network) as server, opened(chromium, server, viewport={"width": 1280, "height": 800}) as page:
        green = shown(page, SIZE, 25, 20)
        stroke(page, SIZE, (20, 20), (30, 20))
        assert shown(page, SIZE, 25, 20) != green
        saved(page)
        first = mask_of(folder)
        assert first[20, 20:30].all()
        assert not first[:15].any()
        stroke(page, SIZE, (50, 35), (50, 36))
        page.click("#undo")
        saved(page)
        assert np.array_equal(mask_of(folder), first)
        page.keyboard.press("Control+y")
        saved(page)
        assert mask_of(folder)[35, 50] == 1
        stroke(page, SIZE, (50, 33), (50, 38), button="right")  # erases
        page.click("#size")
        for _ in range(12):
            page.keyboard.press("]")
        stroke(page, SIZE, (22, 18), (28, 22))
        saved(page)
        assert mask_of(folder)[35, 50] == 0

        page.fill("#classes input", "disc")
        page.keyboard.press("Enter")
        page.click("#segment")
        expect(page.locator("#status")).to_have_text("All 2 done", timeout=WAIT)
        expect(page.locator("#order")).to_have_value("certain")
        expect(page.locator(".badge[data-kind=score]")).to_have_count(2)
        strip_item(page, "a1.png").click()
        expect(page.locator("#about")).to_contain_text("disc: score")
        page.locator("#threshold").fill("0.02")
        everything = shown(page, SIZE, 25, 20)
        page.locator("#threshold").fill("0.98")
        assert shown(page, SIZE, 25, 20) != everything
        page.get_by_role("radio", name="Guided").click()
        page.get_by_role("radio", name="Mask").click()

        stroke(page, SIZE, (23, 20), (27, 20))  # corrects the prediction
        expect(page.locator("#about")).to_contain_text("Corrected by you")
        saved(page)
        page.click("#accept")
        expect(strip_item(page, "a1.png").locator(".badge")).to_have_text("support")
        with page.expect_download() as download:
            page.click("#download")
            page.get_by_role("checkbox", name="COCO").check()
            page.locator("#download-dialog button.primary").click()
        download.value.save_as(tmp_path / "masks.zip")
        with zipfile.ZipFile(tmp_path / "masks.zip") as archive:
            assert {"a0.png", "a1.png", "a2.png", "annotations.json", "segments.csv"} <= set(archive.namelist())
            for name in ("a0.png", "a1.png"):
                assert np.array_equal(np.asarray(Image.open(archive.open(name))), mask_of(folder, name))
        page.reload()
        ready(page)
        expect(page.locator("#classes input")).to_have_value("disc")
        expect(page.locator(".badge[data-kind=support]")).to_have_count(2)
        expect(page.locator(".badge[data-kind=score]")).to_have_count(1)
        expect(page.locator("#threshold-value")).to_have_text("0.98")


def test_a_turned_image_to_the_pixel(chromium: Browser, network: Segmenter, tmp_path: Path) -> None:
    """4000 x 3000 px as stored, EXIF 6: seen 3000 x 4000. One pixel of the mark is hit where it is seen."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    upright = np.full((4000, 3000, 3), 90, np.uint8)
    upright[1190:1250, 2090:2150] = (250, 30, 220)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(upright)).save(folder / "turned.jpg", quality=95, exif=exif)
    with (
        served(folder, network) as server,
        opened(chromium, server, viewport={"width": 1280, "height": 800}) as page,
    ):
        x, y = (round(value) for value in on_screen(page, (4000, 3000), 2120, 1220))
        left, top = on_screen(page, (4000, 3000), 0, 0)
        scale = on_screen(page, (4000, 3000), 1, 0)[0] - left
        column, row = int((x - left) / scale), int((y - top) / scale)
        page.mouse.move(x, y)
        for _ in range(20):
            page.mouse.wheel(0, -200)  # up to 64 px of the screen for each of the image
        for _ in range(30):
            page.keyboard.press("[")
        expect(page.locator("#size-value")).to_have_text("1 px")
        page.wait_for_timeout(500)
        seen = Image.open(io.BytesIO(page.screenshot())).convert("RGB").getpixel((x + 20, y + 20))
        assert np.abs(np.subtract(seen, (250, 30, 220))).max() < 12  # the mark
        page.mouse.down()
        page.mouse.move(x + 3 * 64, y, steps=3)
        page.mouse.up()
        saved(page)
        mask = mask_of(folder, "turned.jpg")
        assert mask.shape == (4000, 3000)
        assert np.argwhere(mask).tolist() == [[row, column + i] for i in range(4)]


def test_keyboard_alone(chromium: Browser, network: Segmenter, tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "photographs")
    with served(folder, network) as server, opened(chromium, server, viewport={"width": 1280, "height": 800}) as page:
        reached = []
        for _ in range(30):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate("() => document.activeElement.id || document.activeElement.dataset.tool || ''")
            )
        assert {"segment", "download", "help", "brush", "size", "stage", "add-class", "order"} <= set(reached)
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("() => document.activeElement.id") == "stage":
                break
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Space")
        for _ in range(4):
            page.keyboard.press("Shift+ArrowLeft")
        saved(page)
        assert mask_of(folder)[20, 25:29].all()
        page.keyboard.press("s")
        expect(page.locator("#status")).to_have_text("All 2 done", timeout=WAIT)
        page.keyboard.press(".")
        page.keyboard.press(",")
        page.keyboard.press("?")
        expect(page.locator("#help-dialog")).to_be_visible()
        page.keyboard.press("Escape")
        strip_item(page, "a0.png").focus()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        expect(page.locator("#accept")).to_be_enabled()
        page.keyboard.press("a")
        expect(page.locator(".badge[data-kind=support]")).to_have_count(2)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_accessible_and_names_are_only_text(
    chromium: Browser, network: Segmenter, tmp_path: Path, scheme: str, width: int
) -> None:
    folder = write_scenes(tmp_path / "photographs", 2)
    (folder / "a1.png").rename(folder / HOSTILE)
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 844}}
    with served(folder, network) as server, opened(chromium, server, **options) as page:
        strip_item(page, HOSTILE).click()
        expect(page.locator("#about strong")).to_have_text(HOSTILE)
        page.fill("#classes input", "<b>x</b>")
        page.keyboard.press("Enter")
        ready(page)
        stroke(page, SIZE, (20, 20), (30, 20))
        saved(page)
        assert "photographs" in page.title()
        assert page.locator("#strip b, #strip [onerror], #classes b").count() == 0
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        for selector in (None, "#download", "#help"):
            if selector and page.locator(selector).is_visible():
                page.click(selector)
            serious = [v for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
            assert not serious, [(v["id"], [node["html"] for node in v["nodes"]]) for v in serious]
            page.keyboard.press("Escape")


LABELS = """async ([settings, values, outcome]) => {
  const { labelsOf } = await import("/found.js");
  const probabilities = values.map(([number, bytes]) => [number, { values: Uint8Array.from(bytes) }]);
  return [...labelsOf(Object.fromEntries(probabilities), outcome, settings)];
}"""


def test_the_page_shows_what_the_download_holds(chromium: Browser, network: Segmenter, tmp_path: Path) -> None:
    """Classes by `furthest_above`, their colours, and the formats: the page's are those of Python."""
    rng = np.random.default_rng(0)
    with served(write_scenes(tmp_path / "photographs", 1), network) as server, opened(chromium, server) as page:
        for _ in range(100):
            numbers = (rng.permutation(9)[: rng.integers(1, 5)] + 1).tolist()
            maps = {n: rng.integers(0, 256, (8, 9), dtype=np.uint8) for n in numbers if rng.random() < 0.9}
            if not maps:
                continue
            scores = {n: rng.integers(0, 11) / 10 for n in maps}
            by_run = {n: rng.integers(1, 20) / 20 for n in maps if rng.random() < 0.9}  # coarse: many are equally far
            chosen = {n: rng.integers(1, 20) / 20 for n in numbers if rng.random() < 0.3}
            settings = {"classes": [{"number": n} for n in numbers], "chosen": chosen, "presence": 0.3}
            values = [[n, values.ravel().tolist()] for n, values in maps.items()]
            labels = page.evaluate(LABELS, [settings, values, {"scores": scores, "thresholds": by_run}])
            found = {n: values.astype(np.float32) / np.float32(255) for n, values in maps.items()}
            result = as_result({n: str(n) for n in numbers}, found, by_run | chosen, scores, 0.3)
            expected = sum(int(name) * segment.mask for name, segment in result.segments.items())
            assert np.array_equal(np.reshape(labels, (8, 9)), expected)
        expect(page.locator("#classes .dot").first).to_have_css("background-color", f"rgb{CLASS_COLOURS[0]}")
        page.click("#download")
        offered = page.locator("#formats input").evaluate_all("boxes => boxes.map((box) => box.value)")
        assert offered == [name for name, one in FORMATS.items() if one.on_page]
