"""The page of ``qgnet serve`` in a real browser: pictures of it for the README, and how quick it is.

    python benchmarks/page.py pictures docs       # page.png, page_dark.png, page_narrow.png
    python benchmarks/page.py times               # click to prediction, the longest pause meanwhile, 2,000 pictures

The network is chosen as for ``qgnet serve``, e.g. with ``--image-size 193 --encoder resnet18 --encoder-weights FILE``.

Needs Debian's ``chromium`` (or ``--browser``), and ``pip install 'qgnet-lightning[test]'``. The photographs come with
scikit-image, whose licence lets them be shown.
"""

import argparse
import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from skimage import data

from qgnet.commands.model_options import add_model_options
from qgnet.common.boundary import boundary
from qgnet.common.errors import InputError

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


UNTIL_FOUND = """() => {
  const about = document.querySelector("#about");
  about.textContent = "";
  document.querySelector("#segment").addEventListener("click", () => { window.clicked = performance.now(); });
  window.found = window.clicked = 0;
  new MutationObserver((_, observer) => {
    const text = about.textContent;
    if (!window.clicked || !text.includes("score") || text.includes("earlier run")) return;
    window.found = performance.now();
    observer.disconnect();
  }).observe(about, { childList: true });
}"""


COINS = [(51, 44), (55, 98), (50, 155), (50, 215), (45, 335), (125, 45), (120, 270), (195, 210), (260, 47), (260, 170)]
"""Rows and columns of some coins' middles in scikit-image's photograph."""


def write_photographs(folder: Path) -> None:
    """Parts of a photograph of coins, each around one of them, and a few others."""
    folder.mkdir()
    coins = Image.fromarray(data.coins())
    for number, (row, column) in enumerate(COINS, start=1):
        top, left = max(0, row - 36), max(0, column - 36)
        part = coins.crop((left, top, left + 72, top + 72)).resize((648, 648), Image.Resampling.LANCZOS)
        part.save(folder / f"coin {number:02d}.jpg", quality=92)
    for name in ("coffee", "chelsea", "rocket"):
        Image.fromarray(getattr(data, name)()).save(folder / f"{name}.jpg", quality=92)


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[str]:
    """The real command; its address. If it refuses its arguments, which it says itself, this ends as it does."""
    command = [sys.executable, "-c", "from qgnet.commands import main; main()", "serve", str(folder), "--port=0"]
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        opened = next((line for line in process.stdout if line.startswith("Open ")), "")
        if not opened:
            sys.exit(process.wait())
        yield opened.split()[1]
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
    """A disc around a point, all as parts of the canvas's height from its middle: its outline by mouse, then filled."""
    box = page.locator("#stage").bounding_box()
    assert box is not None
    left, top = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.keyboard.press("b")
    around = [2 * math.pi * step / 40 for step in range(41)]
    places = [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in around]
    page.mouse.move(left + places[0][0] * box["height"], top + places[0][1] * box["height"])
    page.mouse.down()
    for place in places:
        page.mouse.move(left + place[0] * box["height"], top + place[1] * box["height"])
    page.mouse.up()
    page.keyboard.press("f")
    page.mouse.click(left + x * box["height"], top + y * box["height"])
    page.keyboard.press("b")


def segment(page: Page) -> None:
    """Press Segment and wait for the end of the run."""
    expect(page.locator("#status")).to_have_text("Saved", timeout=WAIT)
    page.click("#segment")
    expect(page.locator("#status")).to_contain_text("All", timeout=WAIT)


def take_pictures(browser: Browser, address: str, to: Path) -> None:
    """Light, dark and narrow."""
    page = open_page(browser, address, 1280, 800)
    page.fill("#classes input", "coin")
    choose(page, "coin 02.jpg")
    paint(page, 0, 0, 0.3)
    segment(page)
    choose(page, "coin 06.jpg")
    take(page, to / "page.png")
    dark = open_page(browser, address, 1280, 800, "dark")
    choose(dark, "coin 05.jpg")
    dark.get_by_role("radio", name="Guided").click()
    take(dark, to / "page_dark.png")
    narrow = open_page(browser, address, 390, 844)
    choose(narrow, "coin 05.jpg")
    take(narrow, to / "page_narrow.png")


def take(page: Page, file: Path) -> None:
    """A picture of what is seen, in 256 colours, rare ones among them."""
    page.mouse.move(1, 1)
    page.wait_for_timeout(1500)
    page.screenshot(path=file)
    with Image.open(file) as image:
        rgb = image.convert("RGB")
        palette = rgb.quantize(256, Image.Quantize.MAXCOVERAGE)
        rgb.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(file, optimize=True)


def measure(browser: Browser, folder: Path, arguments: list[str]) -> None:
    """Print how long the page lets one wait."""
    write_photographs(folder)
    with serving(folder, *arguments) as address:
        page = open_page(browser, address, 1280, 800)
        choose(page, "coin 02.jpg")
        paint(page, 0, 0, 0.3)
        choose(page, "coin 05.jpg")
        for attempt in ("first", "second"):
            expect(page.locator("#status")).to_have_text(re.compile("Saved|done"), timeout=WAIT)
            page.evaluate(PAUSE)
            page.evaluate(UNTIL_FOUND)
            page.click("#segment")
            page.wait_for_function("() => window.found > 0", timeout=WAIT)
            expect(page.locator("#status")).to_contain_text("All", timeout=WAIT)
            waited, longest = page.evaluate("() => [window.found - window.clicked, window.longest]")
            print(f"{attempt} run: click to prediction {waited:.0f} ms, longest pause of the page {longest:.0f} ms")
    many = folder.with_name("many")
    many.mkdir()
    small = Image.fromarray(data.coffee())
    for number in range(2000):
        small.save(many / f"{number:04d}.jpg")
    with serving(many, *arguments) as address:
        started = time.perf_counter()
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)
        expect(page.locator("#strip li")).to_have_count(2000, timeout=WAIT)
        page.locator("#strip li img:not([hidden])").nth(8).wait_for(timeout=WAIT)
        print(f"2,000 pictures: strip with its first nine thumbnails after {time.perf_counter() - started:.2f} s")


def main() -> None:
    """Run one of the two."""
    network = argparse.ArgumentParser(add_help=False)
    add_model_options(network)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True, dest="what", metavar="pictures|times")
    pictures = kinds.add_parser("pictures", parents=[network], help="light, dark and narrow, for the README")
    pictures.add_argument("to", type=Path, nargs="?", default=Path("docs"), help="a folder (default docs)")
    times = kinds.add_parser("times", parents=[network], help="how long the page lets one wait")
    for one in (pictures, times):
        one.add_argument("--browser", type=Path, default="/usr/bin/chromium", help="default /usr/bin/chromium")
    options = parser.parse_args()
    if not options.browser.is_file():
        raise InputError(f"{options.browser} does not exist. Install Debian's chromium, or point --browser to one.")
    given = {name: getattr(options, name) for name in vars(network.parse_args([]))}
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.browser, args=["--no-sandbox"])
        folder = Path(temporary) / "photographs"
        if options.what == "pictures":
            options.to.mkdir(parents=True, exist_ok=True)
            write_photographs(folder)
            with serving(folder, *arguments) as address:
                take_pictures(browser, address, options.to)
        else:
            measure(browser, folder, arguments)


if __name__ == "__main__":
    with boundary("Run it again to measure."):
        main()
