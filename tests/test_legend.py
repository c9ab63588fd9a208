"""Legends of classes and colours, on the contact sheet and on overlays."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_segment import draw, folder, segment  # noqa: F401

from qgnet.outputs import CLASS_COLOURS
from qgnet.outputs.contact_sheet import write_contact_sheet
from qgnet.outputs.marking import Entry, draw_legend, legend, plain
from qgnet.outputs.records import record_of
from qgnet.outputs.segments import Result, Segment


def near(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    """How many pixels nearly have a colour."""
    return int((np.abs(image.astype(int) - colour).max(axis=2) < 25).sum())


def read(path: str) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.usefixtures("folder")
def test_of_several_classes() -> None:
    for number, name in enumerate(("disc", "lawn")):
        mask = draw(Path("labelled/images/0.jpg"), 200)
        Path(f"labelled/masks/{name}").mkdir(parents=True)
        Image.fromarray(255 - mask if number else mask).save(f"labelled/masks/{name}/0.png")
    segment("--supports", "labelled", "--threshold", "0.99", support=False)  # next to nothing is found
    top = read("out/contact_sheet.jpg")[:24]
    assert near(top, CLASS_COLOURS[0]) > 40
    assert near(top, CLASS_COLOURS[1]) > 40
    assert not near(top, CLASS_COLOURS[2])
    assert near(top, (0, 0, 0)) > 50  # their names


@pytest.mark.usefixtures("folder")
def test_of_one_class() -> None:
    segment("--format", "overlay")
    assert near(read("out/contact_sheet.jpg")[:24], CLASS_COLOURS[0]) > 40
    for path in Path("out/overlays").rglob("*.jpg"):
        assert not near(read(str(path))[:8, :8], (255, 255, 255))  # one class needs none


def test_only_where_it_fits() -> None:
    entries = [Entry(1, "a"), Entry(2, "b")]
    for size in ((1, 70), (70, 1), (20, 20), (1, 1)):
        small = np.zeros((*size, 3), np.uint8)
        assert np.array_equal(draw_legend(small, entries), small)
    large = draw_legend(np.zeros((200, 300, 3), np.uint8), entries)
    assert large.shape == (200, 300, 3)
    assert near(large, CLASS_COLOURS[0]) > 80
    assert near(large, CLASS_COLOURS[1]) > 80


def test_of_many_classes_with_odd_names(tmp_path: Path) -> None:
    names = ["two\nlines", "", "x" * 300, "Größe", "\udcff", "猫", *(f"class {n}" for n in range(248))]
    assert plain(names[0]) == "two lines"
    assert len(plain(names[2])) == 30
    drawn = legend([Entry(n, plain(name)) for n, name in enumerate(names, start=1)], 12, 600)
    assert drawn.width <= 600
    mask = np.zeros((50, 60), np.uint8)
    result = Result({name: Segment(name, mask, mask.astype(np.float32), 0.5, {}) for name in names})
    write_contact_sheet(tmp_path, {"a": record_of(tmp_path / "a.png", result, "", instances=True)}, names)
    assert Image.open(tmp_path / "contact_sheet.jpg").size[0] > 1000
