"""``qgnet segment`` on what people have: names of every kind, and images of every kind."""

import csv
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin
from test_segment import MACHINE, MODEL, draw

from qgnet.callbacks.predictions import file_name
from qgnet.commands import main
from qgnet.outputs import file_names
from qgnet.outputs.file_names import class_folders
from qgnet.outputs.segments import Result, Segment

FORMATS = ["--format", "index", "coco", "labelme", "overlay", "probability"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
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


def test_spaces_and_umlauts(images: Path) -> None:
    assert segment(images, *FORMATS) == ["Ä 0.jpg", "Ä 1.jpg"]
    out = images.parent / "Masken für Oma"
    for file in ("Ä 0.png", "labelme/Ä 0.json", "overlays/Ä 0.jpg", "probabilities/Ä 0.png", "contact_sheet.jpg"):
        assert (out / file).is_file()


def test_a_name_that_is_no_text(images: Path) -> None:
    """As of old archives, whose names are bytes of another alphabet."""
    draw(images / "new.jpg", 3)
    try:
        os.rename(images / "new.jpg", os.fsencode(images) + b"/caf\xe9.jpg")
    except OSError:
        pytest.skip("this file system takes no such names")
    assert len(segment(images, *FORMATS)) == 3


def test_images_of_every_kind(images: Path) -> None:
    """16 bits, grey, with a palette, with transparency, in CMYK, one pixel wide."""
    red = Image.open(images / "Ä 0.jpg")
    cv2.imwrite(str(images / "deep.png"), np.asarray(red).astype(np.uint16)[:, :, ::-1] * 257)
    Image.fromarray(np.asarray(red.convert("L")).astype(np.uint16) * 257).save(images / "deep grey.png")
    for mode, name in (("L", "grey.png"), ("P", "palette.png"), ("RGBA", "clear.png"), ("CMYK", "print.jpg")):
        red.convert(mode).save(images / name)
    red.resize((1, 70)).save(images / "narrow.png")
    assert len(segment(images, *FORMATS)) == 9
    for name, size in (("deep", (90, 70)), ("deep grey", (90, 70)), ("narrow", (1, 70)), ("print", (90, 70))):
        assert Image.open(images.parent / f"Masken für Oma/{name}.png").size == size


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


def test_names_that_are_too_long_are_left_out_and_named(images: Path, capsys: pytest.CaptureFixture) -> None:
    long, longest = "x" * 245, "y" * 251
    draw(images / f"{long}.jpg", 3)
    draw(images / "z.jpg", 4)
    assert segment(images, *FORMATS) == [f"{long}.jpg", "z.jpg", "Ä 0.jpg", "Ä 1.jpg"]
    draw(images / f"{longest}.jpg", 5)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        segment(images, *FORMATS)
    assert stop.value.code == 1
    out, error = capsys.readouterr()
    assert "4 of them done before" in out
    assert f"left out: {images / longest}.jpg has too long a name" in error
    assert "1 of 5 images" in error


def test_a_prediction_of_a_long_name_has_a_shorter_one() -> None:
    assert file_name(3, "a b", "dog/cat") == "00003_a_b_dog_cat.png"
    assert len(file_name(3, "ä" * 125, "cat").encode()) == 254  # whole letters
    assert len(file_name(3, "x" * 250, "cat").encode()) == 255


@pytest.mark.parametrize(
    ("files", "formats", "twice"),
    [
        (["a.jpg", "probabilities/a.jpg"], ["index", "probability"], "probabilities/a.png"),
        (["a.jpg", "overlays/a.jpg.png"], ["index", "overlay"], ""),
        (["a.jpg", "a.png/b.jpg"], ["index"], "a.png, and that must be a folder for"),
        (["a.jpg", "a.json/b.jpg"], ["overlay"], ".qgnet/a.json, and that must be a folder for"),
        (["segments.csv/b.jpg"], ["index"], "segments.csv, and that must be a folder for"),
        (["annotations.json/b.jpg", "contact_sheet.jpg/a.jpg"], ["overlay"], ""),
    ],
)
def test_two_results_of_one_name_are_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture, files: list[str], formats: list[str], twice: str
) -> None:
    for number, file in enumerate(files):
        draw(tmp_path / "photos" / file, number)
    out = tmp_path / "Masken für Oma"
    if not twice:
        assert len(segment(tmp_path / "photos", "--format", *formats)) == len(files)
        return
    with pytest.raises(SystemExit) as stop:
        segment(tmp_path / "photos", "--format", *formats)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert f"{out / twice}" in said
    assert str(tmp_path / "photos" / files[-1]) in said
    assert not [path for path in out.rglob("*") if path.suffix in (".png", ".jpg", ".csv")]


def test_names_that_differ_in_their_case_where_that_counts_for_nothing(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    draw(images / "A.jpg", 3)
    draw(images / "a.png", 4)
    assert len(segment(images)) == 4
    monkeypatch.setattr(file_names, "ignores_case", lambda out: True)
    with pytest.raises(SystemExit):
        segment(images)
    assert "A.jpg (--format index) and" in capsys.readouterr().err


def labelled(folder: Path, names: list[str]) -> Path:
    """Two classes' masks, or more, in folders named after them."""
    mask = Image.fromarray(draw(folder / "images/0.jpg", 3))
    for name in names:
        (folder / "masks" / name).mkdir(parents=True)
        mask.save(folder / "masks" / name / "0.png")
    return folder


def test_classes_are_named_as_they_like(images: Path, capsys: pytest.CaptureFixture) -> None:
    """After other files of the command, and so long that no folder can be named after them."""
    root = labelled(images.parent / "labelled", ["segments.csv", "annotations.json", "Overlays"])
    line = ["segment", str(images), *MACHINE, *MODEL, "--format", "binary", "coco", "overlay"]
    out = images.parent / "out"
    main([*line, "--supports", str(root), "--out", str(out)])
    found = sorted(path.name for path in out.iterdir() if path.is_dir() and not path.name.startswith("."))
    assert found == ["_Overlays", "_annotations.json", "_segments.csv", "overlays"]
    assert {len(list((out / name).iterdir())) for name in found} == {2}
    assert (out / "segments.csv").is_file()
    (root / "masks/Overlays").rename(root / "masks/overlays")
    long = labelled(images.parent / "long", ["." + "z" * 254, "b"])
    (long / "classes.yaml").write_text(f"1: {'z' * 300}\n2: b\n")
    for name in ("." + "z" * 254, "b"):
        (long / "masks" / name / "0.png").unlink()
        (long / "masks" / name).rmdir()
    labels = np.zeros((70, 90), np.uint8)
    labels[:20], labels[40:] = 1, 2
    Image.fromarray(labels).save(long / "masks/0.png")
    with pytest.raises(SystemExit):
        main([*line, "--supports", str(long), "--out", str(images.parent / "two")])
    assert "has too long a name for a folder" in capsys.readouterr().err


def test_more_classes_than_a_mask_has_numbers_are_refused_before_the_work(
    images: Path, capsys: pytest.CaptureFixture
) -> None:
    """254 are not; 255 would mean in our own masks that a pixel is not known."""
    root = labelled(images.parent / "labelled", [str(number) for number in range(255)])
    line = ["segment", str(images), *MACHINE, *MODEL, "--supports", str(root)]
    with pytest.raises(SystemExit) as stop:
        main([*line, "--out", str(images.parent / "out")])
    assert stop.value.code == 2
    assert "There are 255 classes; a mask takes at most 254" in capsys.readouterr().err
    assert not (images.parent / "out").exists()
    values = np.ones((2, 2), np.float32)
    masks = [np.array([[n == 253, 0], [0, 0]], np.uint8) for n in range(254)]
    result = Result({str(n): Segment(str(n), mask, values, 1.0, {}) for n, mask in enumerate(masks)})
    assert result.mask.max() == 254


def test_only_the_first_page_is_segmented_and_that_is_said(images: Path, capsys: pytest.CaptureFixture) -> None:
    red, green = (Image.open(images / f"Ä {number}.jpg") for number in range(2))
    for ending in ("tif", "gif", "webp", "png"):
        red.save(images / f"two.{ending}", save_all=True, append_images=[green])
    red.save(images / "depth.jpg", "MPO", save_all=True, append_images=[green])
    smaller = TiffImagePlugin.ImageFileDirectory_v2()
    smaller[254] = 1
    with TiffImagePlugin.AppendingTiffWriter(str(images / "pyramid.tif"), new=True) as file:
        red.save(file, "TIFF")
        file.newFrame()
        green.resize((45, 35)).save(file, "TIFF", tiffinfo=smaller)
        file.newFrame()
    with Image.open(images / "pyramid.tif") as pyramid:
        assert pyramid.n_frames == 2
    for done in ("", "8 of them done before"):
        assert len(segment(images)) == 8
        out, error = capsys.readouterr()
        assert done in out
        told = sorted(line for line in error.splitlines() if "pages or frames" in line)
        names = [f"only the first of 2 pages or frames: {images}/two.{e}" for e in ("gif", "png", "tif", "webp")]
        assert told == names
