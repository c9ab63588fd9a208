"""The page of ``qgnet serve`` in a real browser: pictures of it for the README, and how quick it is.

    python benchmarks/page.py pictures docs       # page.png, page_dark.png, page_narrow.png
    python benchmarks/page.py times               # click to prediction, the longest pause meanwhile, 2,000 pictures

Needs Debian's ``chromium`` (or ``--browser``), and ``pip install 'qgnet-lightning[test]'``. The photographs come with
scikit-image, whose licence lets them be shown.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from skimage import data

WAIT = 120_000
"""Milliseconds."""
PAUSE = """() => {
  window.longest = 0;
  let last = performance.now();
  const tick = (now) => {
    window.longest = Math.max(window.longest, now - last);
    last = now;
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
}"""


def write_photographs(folder: Path) -> None:
    """Parts of a photograph of coins, each with one or two of them, and a few others."""
    folder.mkdir()
    coins = Image.fromarray(data.coins())
    for row, top in enumerate((0, 75, 145, 213)):
        for column, left in enumerate((0, 95, 190, 264)):
            part = coins.crop((left, top, left + 120, top + 90)).resize((720, 540), Image.Resampling.LANCZOS)
            part.save(folder / f"coin {4 * row + column + 1}.jpg", quality=92)
    coins.resize((1152, 909), Image.Resampling.LANCZOS).save(folder / "tray.jpg", quality=92)
    Image.fromarray(data.coffee()).save(folder / "coffee.jpg", quality=92)
    Image.fromarray(data.chelsea()).save(folder / "cat.jpg", quality=92)


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[str]:
    """The real command; its address."""
    command = [sys.executable, "-c", "from qgnet.commands import main; main()", "serve", str(folder), "--port=0"]
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[1]
    finally:
        process.terminate()
        process.wait()


def open_page(browser: Browser, address: str, width: int, height: int, scheme: str = "light") -> Page:
    """The page with its first picture."""
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(address)
    page.wait_for_selector("#strip [aria-selected=true]", timeout=WAIT)
    page.wait_for_selector("#about strong", timeout=WAIT)
    return page


def choose(page: Page, name: str) -> None:
    """Open a picture of the strip."""
    page.locator("#strip li", has=page.locator(f"text={name}")).first.click()
    expect(page.locator("#about")).to_contain_text(re.compile(rf"{re.escape(name)}.*px"))


def paint(page: Page, x: float, y: float, radius: float) -> None:
    """A disc around a point, all as parts of the whole canvas's width and height, by the mouse."""
    box = page.locator("#stage").bounding_box()
    assert box is not None
    page.keyboard.press("b")
    for step in range(9):
        at = radius * (step / 4 - 1)
        half = (radius**2 - at**2) ** 0.5
        page.mouse.move(box["x"] + box["width"] * x - half * box["height"], box["y"] + box["height"] * (y + at))
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * x + half * box["height"], box["y"] + box["height"] * (y + at))
        page.mouse.up()


def segment(page: Page) -> None:
    """Press Segment and wait for the end of the run."""
    expect(page.locator("#status")).to_have_text("Saved", timeout=WAIT)
    page.click("#segment")
    expect(page.locator("#status")).to_contain_text("All", timeout=WAIT)


def take_pictures(browser: Browser, address: str, to: Path) -> None:
    """Light, dark and narrow."""
    page = open_page(browser, address, 1280, 800)
    page.fill("#classes input", "coin")
    choose(page, "coin 2.jpg")
    paint(page, 0.5, 0.56, 0.3)
    segment(page)
    page.locator("#strip li").nth(3).click()
    take(page, to / "page.png")
    for name, width, height, scheme in (("page_dark", 1280, 800, "dark"), ("page_narrow", 390, 844, "light")):
        other = open_page(browser, address, width, height, scheme)
        choose(other, "tray.jpg")
        take(other, to / f"{name}.png", full=width < 1000)


def take(page: Page, file: Path, full: bool = False) -> None:
    """A picture of the page, in 256 colours."""
    page.mouse.move(1, 1)
    page.wait_for_timeout(1500)
    page.screenshot(path=file, full_page=full)
    with Image.open(file) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pictures", "times"))
    parser.add_argument("to", type=Path, nargs="?", default=Path("docs"))
    parser.add_argument("--browser", default="/usr/bin/chromium")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.browser, args=["--no-sandbox"])
        folder = Path(temporary) / "photographs"
        if options.what == "pictures":
            write_photographs(folder)
            with serving(folder) as address:
                take_pictures(browser, address, options.to)


if __name__ == "__main__":
    main()
