"""``qgnet segment`` on what people have: names of every kind, and pictures of every kind."""

import csv
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from test_segment import MACHINE, MODEL, draw

from qgnet.commands import main
from qgnet.outputs.places import class_folders

FORMATS = ["--format", "index", "coco", "labelme", "overlay", "probability"]


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder whose name has a space and an umlaut."""
    folder = tmp_path / "Fotos für Oma"
    for number in range(2):
        draw(folder / f"Ä {number}.jpg", number)
    return folder


def segment(folder: Path, *arguments: str) -> list[str]:
    """Names in ``segments.csv``."""
    support = draw(folder.parent / "Stütze 1.jpg", 9)
    Image.fromarray(support).save(folder.parent / "Stütze 1.png")
    given = [str(folder.parent / f"Stütze 1.{ending}") for ending in ("jpg", "png")]
    out = folder.parent / "Masken für Oma"
    main(["segment", str(folder), "--support", *given, "--out", str(out), *MACHINE, *MODEL, *arguments])
    with open(out / "segments.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [Path(row["image"]).name for row in csv.DictReader(file)]


def test_spaces_and_umlauts(photographs: Path) -> None:
    assert segment(photographs, *FORMATS) == ["Ä 0.jpg", "Ä 1.jpg"]
    out = photographs.parent / "Masken für Oma"
    for file in ("Ä 0.png", "labelme/Ä 0.json", "overlays/Ä 0.jpg", "probabilities/Ä 0.png", "contact_sheet.jpg"):
        assert (out / file).is_file()


def test_a_name_that_is_no_text(photographs: Path) -> None:
    """As of old archives, whose names are bytes of another alphabet."""
    draw(photographs / "new.jpg", 3)
    try:
        os.rename(photographs / "new.jpg", os.fsencode(photographs) + b"/caf\xe9.jpg")
    except OSError:
        pytest.skip("this file system takes no such names")
    assert len(segment(photographs, *FORMATS)) == 3


def test_pictures_of_every_kind(photographs: Path) -> None:
    """16 bits, grey, with a palette, with transparency, in CMYK, one pixel wide."""
    red = Image.open(photographs / "Ä 0.jpg")
    cv2.imwrite(str(photographs / "deep.png"), np.asarray(red).astype(np.uint16)[:, :, ::-1] * 257)
    Image.fromarray(np.asarray(red.convert("L")).astype(np.uint16) * 257).save(photographs / "deep grey.png")
    for mode, name in (("L", "grey.png"), ("P", "palette.png"), ("RGBA", "clear.png"), ("CMYK", "print.jpg")):
        red.convert(mode).save(photographs / name)
    red.resize((1, 70)).save(photographs / "narrow.png")
    assert len(segment(photographs, *FORMATS)) == 9
    for name, size in (("deep", (90, 70)), ("deep grey", (90, 70)), ("narrow", (1, 70)), ("print", (90, 70))):
        assert Image.open(photographs.parent / f"Masken für Oma/{name}.png").size == size


def test_a_class_is_written_into_a_folder_of_its_own() -> None:
    """Also where upper and lower case are one, and never where another file of the command belongs."""
    names = ("..", "a/b", "a_b", "Overlays", "cat", "CAT", "segments.csv", "annotations.json", "x\0")
    folders = [
        "_../",
        "a_b-1/",
        "a_b-2/",
        "_Overlays/",
        "cat-1/",
        "CAT-2/",
        "_segments.csv/",
        "_annotations.json/",
        "x_/",
    ]
    assert class_folders(names) == folders
    assert class_folders(("overlays",)) == [""]
