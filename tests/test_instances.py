"""``--instances``: what was found as single objects, counted, outlined, and written again when it is asked for."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from pycocotools import mask as coco_masks
from test_segment import MACHINE, MODEL

from qgnet.commands import main
from qgnet.outputs import CLASS_COLOURS, instances
from qgnet.outputs.segments import Result, Segment

RED, GREEN = (200, 30, 40), (30, 160, 60)
DISCS = [(25, 25), (48, 25), (90, 60)]
"""Centres; of the first two the discs touch."""
OUT = Path("out")


def drawn(*shapes: tuple[str, tuple[int, ...]], size: tuple[int, int] = (200, 160)) -> np.ndarray:
    """(H, W) in {0, 1} of shapes that PIL draws."""
    mask = Image.new("L", size)
    pen = ImageDraw.Draw(mask)
    for kind, place in shapes:
        pen.ellipse(place, fill=1) if kind == "disc" else pen.polygon(place, fill=1)
    return np.asarray(mask).copy()


def disc(x: int, y: int, radius: int) -> tuple[str, tuple[int, ...]]:
    return "disc", (x - radius, y - radius, x + radius, y + radius)


def bar(x: int, y: int, length: int, width: int) -> tuple[str, tuple[int, ...]]:
    """At a slant of one in three."""
    return "bar", (x, y, x + length, y + length // 3, x + length - width // 3, y + length // 3 + width, x, y + width)


def ring(radius: int, width: int) -> np.ndarray:
    return drawn(disc(100, 80, radius)) - drawn(disc(100, 80, radius - width))


def count(mask: np.ndarray) -> int:
    return int(instances.split(mask).max())


@pytest.mark.parametrize("apart", [50, 41, 38, 34])
def test_discs_that_overlap_a_little_are_single_objects(apart: int) -> None:
    first, second = drawn(disc(50, 60, 20)), drawn(disc(50 + apart, 60, 20))
    found = instances.split(first | second)
    assert found.max() == 2
    assert found[60, 45] != found[60, 50 + apart + 5]
    for number, one in ((found[60, 45], first), (found[60, 55 + apart], second)):
        of_it = found == number
        assert (of_it & (one == 1)).sum() / (of_it | (one == 1)).sum() > 0.9


def test_twenty_discs_in_a_heap() -> None:
    heap = [disc(25 + 23 * column + 11 * (row % 2), 25 + 20 * row, 12) for row in range(4) for column in range(5)]
    assert count(drawn(*heap)) == 20


def test_a_small_and_a_large_disc_that_touch() -> None:
    assert count(drawn(disc(80, 80, 40), disc(136, 80, 18))) == 2


@pytest.mark.parametrize("width", [3, 6, 12, 25])
def test_long_objects_stay_whole(width: int) -> None:
    assert count(drawn(bar(10, 20, 160, width))) == 1
    assert count(ring(60, width)) == 1
    rough = drawn(bar(10, 20, 160, width))
    edge = np.random.default_rng(0).random(rough.shape) < 0.3
    inner = rough & np.roll(rough, 1, axis=0) & np.roll(rough, -1, axis=0)
    assert count(np.where(edge, inner, rough).astype(np.uint8)) == 1
    corner = drawn(("bar", (20, 20, 20 + width, 20, 20 + width, 140, 20, 140)), bar(20, 60, 120, width))
    assert count(corner) == 1


def test_holes_do_not_cut() -> None:
    mask = drawn(disc(100, 80, 70))
    for x, y in np.random.default_rng(0).integers(60, 120, (10, 2)).tolist():
        mask -= mask * drawn(disc(x + 20, y - 10, 5))
    assert count(mask) == 1


def test_specks_are_no_objects_and_touching_corners_are_one() -> None:
    mask = drawn(disc(50, 60, 20), disc(120, 60, 18))
    mask[5:10, 5:10] = mask[150, 150] = 1
    assert count(mask) == 2
    stairs = np.kron(np.eye(3, dtype=np.uint8), np.ones((1, 1), np.uint8))
    assert count(stairs) == 1


def test_from_nothing_to_everything() -> None:
    for size, objects in (((40, 50), 1), ((1, 70), 1), ((70, 1), 1), ((1, 1), 1), ((1, 3000), 1), ((900, 1200), 1)):
        assert count(np.zeros(size, np.uint8)) == 0
        full = instances.split(np.ones(size, np.uint8))
        assert full.shape == size
        assert full.min() == full.max() == objects


def test_large_objects_are_split_to_the_pixel() -> None:
    """A part that is brought to a smaller size to be split still covers exactly its mask."""
    mask = drawn(disc(500, 500, 400), disc(1240, 500, 360), disc(1240, 1100, 300), size=(1700, 1500))
    found = instances.split(mask)
    assert found.max() == 3
    assert np.array_equal(found > 0, mask == 1)


def test_coins() -> None:
    """scikit-image's photograph: 24 coins, of which many touch once each is ten pixels larger."""
    from scipy import ndimage  # noqa: PLC0415
    from skimage import data, filters, morphology, segmentation  # noqa: PLC0415

    image = data.coins()
    markers = np.where(image < 30, 1, np.where(image > 150, 2, 0))
    mask = ndimage.binary_fill_holes(segmentation.watershed(filters.sobel(image), markers) == 2)
    assert count(mask.astype(np.uint8)) == 24
    larger = morphology.dilation(mask, morphology.disk(10)).astype(np.uint8)
    assert ndimage.label(larger)[1] < 7
    assert count(larger) == 24


def test_in_python() -> None:
    mask = drawn(*(disc(x, y, 12) for x, y in DISCS))
    nothing = np.zeros_like(mask)
    segments = {n: Segment(n, m, m.astype(np.float32), 0.9, {}) for n, m in (("a", mask), ("b", nothing), ("c", mask))}
    assert [one.count for one in segments.values()] == [3, 0, 3]
    assert segments["a"].instances.dtype == np.int32
    both = Result({"a": segments["a"], "c": Segment("c", mask[::-1], mask.astype(np.float32), 0.9, {})})
    assert np.unique(both.instances).tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert np.array_equal(both.instances > 0, (mask | mask[::-1]) == 1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``photos/two.png`` and ``three.png`` of discs, ``a.png`` with a mask; the network finds what is red."""
    monkeypatch.chdir(tmp_path)
    for path, discs in (("photos/two.png", DISCS[1:]), ("photos/three.png", DISCS), ("a.png", DISCS[2:])):
        mask = drawn(*(disc(x, y, 12) for x, y in discs), size=(120, 80))
        Path(path).parent.mkdir(exist_ok=True)
        Image.fromarray(np.where(mask[..., None] == 1, RED, GREEN).astype(np.uint8)).save(path)
    Image.fromarray(mask * 255).save("mask.png")

    def red(_: object, images: object, names: object) -> list[Result]:
        found = []
        for path in names:  # type: ignore[attr-defined]
            mask = (np.asarray(Image.open(path))[:, :, 0] > 100).astype(np.uint8)
            mask[2, 2] = 1  # a speck
            found.append(Result({"coin": Segment("coin", mask, mask.astype(np.float32), 0.9, {})}))
        return found

    monkeypatch.setattr("qgnet.inference.segmenter.Segmenter.segment", red)
    monkeypatch.setattr("qgnet.inference.segmenter.Segmenter.classes", ["coin"])


def segment(*arguments: str) -> None:
    torch.manual_seed(0)
    main(["segment", "photos", "--support", "a.png", "mask.png", "--out", "out", *MACHINE, *MODEL, *arguments])


def rows() -> list[dict[str, str]]:
    with open(OUT / "segments.csv", newline="") as file:
        return list(csv.DictReader(file))


def labelme(name: str) -> list[dict]:
    return json.loads((OUT / f"labelme/{name}.json").read_text())["shapes"]


def annotations() -> dict[str, list[dict]]:
    """Of each image."""
    coco = json.loads((OUT / "annotations.json").read_text())
    names = {image["id"]: Path(image["file_name"]).stem for image in coco["images"]}
    return {name: [a for a in coco["annotations"] if a["image_id"] == n] for n, name in names.items()}


@pytest.mark.usefixtures("folder")
def test_one_annotation_and_shape_for_each_object() -> None:
    segment("--format", "index", "coco", "labelme", "overlay", "--instances")
    assert {Path(row["image"]).stem: row["objects"] for row in rows()} == {"two": "2", "three": "3"}
    assert list(rows()[0]) == ["image", "class", "score", "area", "empty", "objects"]
    for name, number in (("two", 2), ("three", 3)):
        mask = np.asarray(Image.open(OUT / f"{name}.png"))
        assert mask[2, 2] == 1  # what is no object is still in the mask
        found = annotations()[name]
        assert len(found) == number
        assert len({a["id"] for of_image in annotations().values() for a in of_image}) == 5
        together = sum(coco_masks.decode(a["segmentation"]) for a in found)
        assert together.max() == 1
        assert together.sum() == mask.sum() - 1
        assert [a["area"] for a in found] == [coco_masks.area(a["segmentation"]) for a in found]
        assert all(20 < side < 28 for a in found for side in a["bbox"][2:])
        assert [shape["group_id"] for shape in labelme(name)] == list(range(1, number + 1))
        assert {shape["label"] for shape in labelme(name)} == {"coin"}


@pytest.mark.usefixtures("folder")
def test_the_cut_between_two_objects_is_drawn() -> None:
    segment("--format", "overlay")
    plain = np.asarray(Image.open(OUT / "overlays/three.jpg")).astype(int)
    sheet = np.asarray(Image.open(OUT / "contact_sheet.jpg")).astype(int)
    segment("--format", "overlay", "--instances")
    cut = np.asarray(Image.open(OUT / "overlays/three.jpg")).astype(int)
    neck, red = np.s_[22:29, 36:38], np.array(CLASS_COLOURS[0])
    assert abs(cut[neck] - red).mean() < abs(plain[neck] - red).mean() / 2
    assert cut.shape == plain.shape
    now = np.asarray(Image.open(OUT / "contact_sheet.jpg")).astype(int)
    assert now.shape == sheet.shape
    assert abs(now - sheet).max() > 100  # the numbers


@pytest.mark.usefixtures("folder")
def test_asked_for_later_only_what_says_it_is_written_again(capsys: pytest.CaptureFixture) -> None:
    formats = ("--format", "index", "labelme", "overlay", "coco")
    segment(*formats)
    plain = state()
    assert list(rows()[0]) == ["image", "class", "score", "area", "empty"]
    assert [len(found) for found in annotations().values()] == [1, 1]
    assert {shape["group_id"] for shape in labelme("three")} == {None}
    capsys.readouterr()
    segment(*formats, "--instances")
    assert "2 of them done before" in capsys.readouterr().out
    told = state()
    again = {name for name in plain if told[name] != plain[name]}
    changed = {f"{kind}/{name}" for kind in ("labelme", "overlays") for name in ("two", "three")}
    tables = {"annotations.json", "contact_sheet.jpg", "segments.csv"}
    assert {name.rsplit(".", 1)[0] if "/" in name else name for name in again} == changed | tables
    assert [len(found) for found in annotations().values()] == [3, 2]
    segment(*formats, "--instances")
    assert {name for name, time in state().items() if time != told[name]} <= tables
    segment(*formats)
    assert "objects" not in rows()[0]
    assert {shape["group_id"] for shape in labelme("three")} == {None}
    assert [len(found) for found in annotations().values()] == [1, 1]
    assert not (OUT / ".qgnet-earlier").exists()


def state() -> dict[str, int]:
    """When each file was written."""
    files = (path for path in OUT.rglob("*.*") if path.is_file() and ".qgnet" not in path.parts)
    return {path.relative_to(OUT).as_posix(): path.stat().st_mtime_ns for path in files}


@pytest.mark.usefixtures("folder")
def test_a_format_that_a_run_without_wrote_and_one_with_did_not(capsys: pytest.CaptureFixture) -> None:
    segment("--format", "labelme", "overlay")
    before = (OUT / "labelme/three.json").read_bytes()
    segment("--format", "index", "--instances")
    assert (OUT / "labelme/three.json").read_bytes() == before
    segment("--format", "labelme", "--instances")
    assert [shape["group_id"] for shape in labelme("three")] == [1, 2, 3]


@pytest.mark.usefixtures("folder")
def test_cut_off_while_files_are_written_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """Half of them say it: without, they are done again."""
    segment("--format", "labelme", "index")
    with monkeypatch.context() as broken:
        broken.setattr("qgnet.outputs.folder.with_objects", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            segment("--format", "labelme", "index", "--instances")
    assert {shape["group_id"] for name in ("two", "three") for shape in labelme(name)} >= {None, 1}
    segment("--format", "labelme", "index")
    assert {shape["group_id"] for name in ("two", "three") for shape in labelme(name)} == {None}
