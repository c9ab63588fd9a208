"""Shapes of other tools' labels: drawn right, or skipped by name; over the real command."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_data import uncompressed_rle
from PIL import Image
from pycocotools import mask as coco
from test_labels import SIZE, box, fails, picture, prepare

from datamodules.files import read_index_mask
from datamodules.prepare.annotations import Skipped
from datamodules.prepare.coco_masks import draw_mask
from datamodules.prepare.shapes import read_runs

HEIGHT, WIDTH = SIZE
OBJECT = box(5, 5, 30, 40)
CORNERS = [[5, 5], [40, 5], [40, 30], [5, 30]]
FLAT = [5, 5, 40, 5, 40, 30, 5, 30]
HOLE = [[10, 10], [20, 10], [20, 20], [10, 20]]


def labelme(folder: Path, shapes: Any, **settings: Any) -> Path:
    picture(folder / "i.jpg")
    content = {"shapes": shapes, "imagePath": "i.jpg", "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH}
    (folder / "i.json").write_text(json.dumps(content | settings))
    return folder


def mask_shape(part: np.ndarray, points: Any) -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(part.astype(np.uint8)).save(file, "PNG")
    return {
        "label": "cat",
        "shape_type": "mask",
        "points": points,
        "mask": base64.b64encode(file.getvalue()).decode(),
    }


@pytest.mark.parametrize(
    ("label", "value"), [("_background_", 0), ("background", 0), ("__ignore__", 255), ("Ignore", 255)]
)
def test_labelme_holes_are_drawn_in_order(
    tmp_path: Path, label: str, value: int, capsys: pytest.CaptureFixture
) -> None:
    shapes = [
        {"label": label, "points": [[0, 0], [9, 0], [9, 9], [0, 9]]},
        {"label": "cat", "points": CORNERS, "group_id": 1},
        {"label": label, "points": HOLE, "group_id": 1},
        {"label": "dog", "points": [[12, 12], [15, 12], [15, 15], [12, 15]], "group_id": 1},
    ]
    root = prepare(tmp_path, "labelme", labelme(tmp_path / "labels", shapes))
    expected = np.where(box(0, 0, 9, 9), value, 0).astype(np.uint8)
    expected[OBJECT] = 1
    expected[box(10, 10, 20, 20)] = value
    expected[box(12, 12, 15, 15)] = 2
    assert np.array_equal(read_index_mask(root / "masks/i.png"), expected)
    assert (root / "classes.yaml").read_text() == '1: "cat"\n2: "dog"\n'
    assert f"{label} is no class: it is written as {value}." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ({"points": [[-9, 5], [40, 5], [40, 30], [-9, 30]]}, box(5, 0, 30, 40)),
        ({"shape_type": "rectangle", "points": CORNERS}, OBJECT),
        ({"shape_type": "rotation", "points": CORNERS}, OBJECT),
        ({"shape_type": "rectangle", "points": [[40, 30], [5, 5]]}, OBJECT),
        (mask_shape(np.tri(6, 9), [[-4, -2], [4, 3]]), np.pad(np.tri(6, 9)[2:, 4:], ((0, 36), (0, 55))) > 0),
        (mask_shape(np.tri(6, 9), [[55, 36], [63, 41]]), np.pad(np.tri(6, 9)[:4, :5], ((36, 0), (55, 0))) > 0),
    ],
)
def test_labelme_shapes_of_other_kinds_and_beyond_the_border(
    tmp_path: Path, shape: dict[str, Any], expected: np.ndarray
) -> None:
    root = prepare(tmp_path, "labelme", labelme(tmp_path / "labels", [{"label": "cat"} | shape]))
    assert np.array_equal(read_index_mask(root / "masks/i.png") == 1, expected)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ({"shape_type": "line", "points": [[1, 1], [9, 9]]}, "without area (line)"),
        ({"shape_type": "linestrip", "points": CORNERS}, "without area (linestrip)"),
        ({"shape_type": "points", "points": CORNERS}, "without area (points)"),
        ({"shape_type": "circle", "points": [[9, 9]]}, "without area (circle)"),
        ({"shape_type": "mask", "points": [[1, 1], [9, 6]], "mask": "no mask"}, "whose mask cannot be read"),
        ({"shape_type": "mask", "points": [[1, 1], [9, 6]]}, "whose mask cannot be read"),
        (mask_shape(np.tri(6, 9), [[1, 1], [30, 30]]), "whose mask has another size than its points say"),
        ({"points": [[1e12, 5], [40, 5], [40, 30]]}, "with a point far outside the image"),
        ({"points": [[float("nan"), 5], [40, 5], [40, 30]]}, "with a point far outside the image"),
        ({"points": [["a", 5], [40, 5], [40, 30]]}, "with a coordinate that is no number"),
        ({"points": [[1, 2, 3], [40, 5], [40, 30]]}, "whose points are no pairs of numbers"),
        ({"points": [[70, 5], [90, 5], [90, 30]]}, "that covers no pixel's centre"),
        ({"points": CORNERS, "label": None}, "without a label"),
    ],
)
def test_labelme_shapes_that_cannot_be_drawn_are_skipped_by_name(
    tmp_path: Path, shape: dict[str, Any], reason: str, capsys: pytest.CaptureFixture
) -> None:
    shapes = [{"label": "cat", "points": CORNERS}, {"label": "dog"} | shape]
    root = prepare(tmp_path, "labelme", labelme(tmp_path / "labels", shapes))
    assert f"1 skipped, shape {reason}: i.json[1]" in capsys.readouterr().out
    assert np.array_equal(read_index_mask(root / "masks/i.png") == 1, OBJECT)


@pytest.mark.parametrize(("label", "name"), [(0, "0"), (7, "7")])
def test_labelme_numbers_are_labels(tmp_path: Path, label: int, name: str) -> None:
    root = prepare(tmp_path, "labelme", labelme(tmp_path / "labels", [{"label": label, "points": CORNERS}]))
    assert (root / "classes.yaml").read_text() == f'1: "{name}"\n'


def test_labelme_files_of_another_size_or_without_shapes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    shapes = [{"label": "cat", "points": CORNERS}]
    source = labelme(tmp_path / "labels", shapes)
    for name, settings in (("turned", {"imageHeight": WIDTH, "imageWidth": HEIGHT}), ("half", {"imageHeight": 20})):
        labelme(tmp_path / "other", shapes, **settings)
        (tmp_path / "other/i.json").rename(source / f"{name}.json")
    embedded = base64.b64encode((source / "i.jpg").read_bytes()).decode()
    for name, data, height in (
        ("inside", embedded, None),
        ("inside_other", embedded, 41),
        ("torn", embedded[:400], 40),
    ):
        labelme(tmp_path / "other", shapes, imagePath="gone.jpg", imageData=data, imageHeight=height)
        (tmp_path / "other/i.json").rename(source / f"{name}.json")
    root = prepare(tmp_path, "labelme", source)
    printed = capsys.readouterr().out
    assert "another size than its image (e.g. 60x40, not 40x60) has: turned.json" in printed
    assert "another size than its image (e.g. 60x40, not 60x20) has: half.json" in printed
    assert "another size than its image (e.g. 60x40, not 60x41) has: inside_other.json" in printed
    assert "1 skipped, labelme file whose image cannot be read: torn.json" in printed
    assert sorted(path.name for path in (root / "masks").iterdir()) == ["i.png", "inside.png"]
    for wrong in (None, {"a": 1}, [None]):
        assert "i.json is not a labelme file" in fails(capsys, tmp_path / "x", "labelme", labelme(source, wrong))


def coco_json(folder: Path, segmentations: list[Any], **more: Any) -> Path:
    picture(folder / "i.jpg")
    annotations = [
        {"id": 70 + i, "image_id": 3, "category_id": 5, "segmentation": s} for i, s in enumerate(segmentations)
    ]
    content = {
        "images": [{"id": 3, "file_name": "i.jpg", "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 5, "name": "cat"}, {"id": 6, "name": "dog"}],
        "annotations": annotations,
    }
    for key, entries in more.items():
        content[key] = content[key] + entries
    (folder / "labels.json").write_text(json.dumps(content))
    return folder


def text_of(runs: list[int]) -> str:
    """COCO's text of any run lengths, by its own rule."""
    text = ""
    for i, run in enumerate(runs):
        rest, more = run - (runs[i - 2] if i > 2 else 0), True
        while more:
            code, rest = rest & 0x1F, rest >> 5
            more = rest != (-1 if code & 0x10 else 0)
            text += chr(code + 0x20 * more + 48)
    return text


RUNS = uncompressed_rle(OBJECT.astype(np.uint8))
WRONG_RUNS = {
    "too short": ([9], "with run lengths that do not fill the image"),
    "none": ([], "with run lengths that do not fill the image"),
    "too long": ([*RUNS, 1], "with run lengths that do not fill the image"),
    "negative": ([HEIGHT * WIDTH + 3, -3], "with a negative run length"),
    "no whole numbers": ([0.5, HEIGHT * WIDTH - 0.5], "with run lengths that are no whole numbers"),
    "no numbers": (["9"], "with run lengths that are no whole numbers"),
    "no counts": (None, "with run lengths that are no whole numbers"),
}


@pytest.mark.parametrize("kind", WRONG_RUNS)
@pytest.mark.parametrize("compressed", [False, True])
def test_coco_run_lengths_are_checked_before_they_are_drawn(
    tmp_path: Path, kind: str, compressed: bool, capsys: pytest.CaptureFixture
) -> None:
    runs, reason = WRONG_RUNS[kind]
    if compressed and reason.endswith("numbers"):
        runs, reason = "\x7f9", "with run lengths in a text that is not COCO's"
    wrong = text_of(runs) if compressed and isinstance(runs, list) else runs
    segmentations = [{"size": list(SIZE), "counts": RUNS}, {"size": list(SIZE), "counts": wrong}]
    root = prepare(tmp_path, "coco", coco_json(tmp_path / "labels", segmentations))
    assert f"1 skipped, annotation {reason}: 71" in capsys.readouterr().out
    assert np.array_equal(read_index_mask(root / "masks/i.png") == 1, OBJECT)


def test_coco_run_lengths_of_swapped_size(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    swapped = {"size": [WIDTH, HEIGHT], "counts": RUNS}
    message = fails(capsys, tmp_path, "coco", coco_json(tmp_path / "labels", [swapped, swapped | {"size": None}]))
    assert "2 skipped, annotation with run lengths of another size than the image's: 70, 71" in message


def test_cocos_text_of_run_lengths_is_read_as_pycocotools_does() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        mask = np.asfortranarray(rng.random((50, 700)) < rng.choice([0.001, 0.5, 0.999]), np.uint8)
        runs = coco.encode(mask)
        text = runs["counts"].decode()
        assert read_runs(text) == uncompressed_rle(mask)
        assert text_of(uncompressed_rle(mask)) == text
        annotation = {"id": 1, "category_id": 5, "segmentation": {"size": [50, 700], "counts": text}}
        assert np.array_equal(draw_mask(50, 700, [annotation], {5: 1}, Skipped()), mask)


@pytest.mark.parametrize(
    ("polygon", "reason"),
    [
        ([FLAT[:-1]], "with a polygon of an odd number of coordinates"),
        ([[*FLAT[:-1], None]], "with a polygon with a coordinate that is no number"),
        ([[*FLAT[:-1], float("inf")]], "with a polygon with a point far outside the image"),
        ([[*FLAT[:-1], 1e9]], "with a polygon with a point far outside the image"),
        (FLAT, "without a polygon of three points"),
        (7, "without segmentation"),
        ({"size": list(SIZE)}, "without segmentation"),
    ],
)
def test_coco_polygons_that_are_none_are_skipped_by_id(
    tmp_path: Path, polygon: Any, reason: str, capsys: pytest.CaptureFixture
) -> None:
    root = prepare(tmp_path, "coco", coco_json(tmp_path / "labels", [[FLAT], polygon]))
    assert f"1 skipped, annotation {reason}: 71" in capsys.readouterr().out
    assert np.array_equal(read_index_mask(root / "masks/i.png") == 1, OBJECT)


def test_coco_background_and_ignore_are_drawn_in_order(tmp_path: Path) -> None:
    flat = [value for point in HOLE for value in point]
    more = [
        {"id": 80, "image_id": 3, "category_id": 8, "segmentation": [flat]},
        {"id": 81, "image_id": 3, "category_id": 9, "segmentation": [[30, 25, 60, 25, 60, 40, 30, 40]]},
    ]
    categories = [{"id": 8, "name": "_background_"}, {"id": 9, "name": "ignore"}]
    root = prepare(tmp_path, "coco", coco_json(tmp_path / "labels", [[FLAT]], annotations=more, categories=categories))
    expected = OBJECT.astype(np.uint8)
    expected[box(10, 10, 20, 20)], expected[box(25, 30, 40, 60)] = 0, 255
    assert np.array_equal(read_index_mask(root / "masks/i.png"), expected)
    assert (root / "classes.yaml").read_text() == '1: "cat"\n'


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"images": [{"id": 3, "file_name": "j.jpg", "height": 1, "width": 1}]}, "two images of one id (3)"),
        ({"images": [{"id": 4, "file_name": "i.jpg", "height": 1, "width": 1}]}, "two images of one file_name (i.jpg)"),
        ({"categories": [{"id": 5, "name": "cow"}]}, "two categories of one id (5)"),
        ({"images": [{"id": [], "file_name": "j.jpg"}]}, "is no COCO file (TypeError"),
        ({"annotations": [None]}, "is no COCO file (AttributeError"),
        ({"annotations": [{"image_id": {}, "category_id": 5}]}, "is no COCO file (TypeError"),
    ],
)
def test_coco_entries_that_contradict_each_other_are_refused(
    tmp_path: Path, more: Any, message: str, capsys: pytest.CaptureFixture
) -> None:
    assert message in fails(capsys, tmp_path, "coco", coco_json(tmp_path / "labels", [[FLAT]], **more))
    assert not (tmp_path / "out").exists()


def test_coco_images_without_a_size_have_their_photographs(tmp_path: Path) -> None:
    source = coco_json(tmp_path / "labels", [[FLAT]])
    file = source / "labels.json"
    content = json.loads(file.read_text())
    del content["images"][0]["height"], content["images"][0]["width"]
    file.write_text(json.dumps(content))
    assert np.array_equal(read_index_mask(prepare(tmp_path, "coco", source) / "masks/i.png") == 1, OBJECT)


def test_coco_never_takes_the_photograph_of_another_entry(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Only val/i.jpg is there: train/i.jpg must not get its pixels."""
    images = [{"id": n, "file_name": f"{n}/i.jpg", "height": HEIGHT, "width": WIDTH} for n in ("train", "val")]
    more = [{"id": n, "image_id": n, "category_id": 5, "segmentation": [FLAT]} for n in ("train", "val")]
    source = coco_json(tmp_path / "labels", [], images=images, annotations=more)
    (source / "val").mkdir()
    (source / "i.jpg").rename(source / "val/i.jpg")
    root = prepare(tmp_path, "coco", source)
    assert "image that is not there, or may be one of several: i.jpg, train/i.jpg" in capsys.readouterr().out
    assert [path.name for path in (root / "masks").iterdir()] == ["val_i.png"]


def test_coco20i_skips_what_cannot_be_drawn_by_id(tmp_path: Path) -> None:
    skipped = Skipped()
    segmentations: list[Any] = [
        [FLAT],
        {"size": list(SIZE), "counts": [9]},
        [[1, 2, 3, 4]],
        {"size": [1, 1], "counts": "1"},
    ]
    annotations = [{"id": i, "category_id": 5, "segmentation": s} for i, s in enumerate(segmentations)]
    assert np.array_equal(draw_mask(*SIZE, annotations, {5: 1}, skipped) == 1, OBJECT)
    assert sorted(skipped.lines()) == [
        "1 skipped, annotation with run lengths of another size than the image's: 3",
        "1 skipped, annotation with run lengths that do not fill the image: 1",
        "1 skipped, annotation without a polygon of three points: 2",
    ]
