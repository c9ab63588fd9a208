"""Labels of other tools become folders that the tests write, convert by the real command, and read."""

import base64
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_data import uncompressed_rle
from PIL import Image

from datamodules import FolderDataModule
from datamodules.files import read_index_mask
from qgnet.commands import main as qgnet

SIZE = (40, 60)


def picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*SIZE, 3), dtype=np.uint8)).save(path)


def prepare(tmp_path: Path, tool: str, source: Path) -> Path:
    qgnet(["prepare", "folder", f"--root={tmp_path / 'out'}", "--from", tool, str(source)])
    return tmp_path / "out"


def fails(capsys: pytest.CaptureFixture, tmp_path: Path, tool: str, source: Path) -> str:
    with pytest.raises(SystemExit) as stop:
        prepare(tmp_path, tool, source)
    assert stop.value.code == 2
    return capsys.readouterr().err


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


def write_labelme(folder: Path) -> Path:
    mask = io.BytesIO()
    Image.fromarray(np.ones((6, 9), np.uint8)).save(mask, "PNG")
    shapes = [
        {"label": "cat", "shape_type": "rectangle", "points": [[5, 5], [30, 25]]},
        {"label": "dog", "points": [[40, 5], [50, 5], [50, 30], [40, 30]]},
        {"label": "no", "shape_type": "circle", "points": [[20, 33], [20, 37]]},
        {"label": "dog", "shape_type": "mask", "points": [[2, 30], [10, 35]], "mask": "MASK"},
        {"label": "dog", "shape_type": "point", "points": [[1, 1]]},
        {"label": "cat", "shape_type": "polygon", "points": [[1, 1], [2, 2]]},
    ]
    shapes[3]["mask"] = base64.b64encode(mask.getvalue()).decode()
    for i in range(3):
        picture(folder / f"i{i}.jpg", i)
        data = {"shapes": shapes, "imagePath": f"..\\labels\\i{i}.jpg" if i else "i0.jpg", "imageData": None}
        (folder / f"i{i}.json").write_text(json.dumps(data | {"imageHeight": SIZE[0], "imageWidth": SIZE[1]}))
    embedded = base64.b64encode((folder / "i2.jpg").read_bytes()).decode()
    (folder / "i2.jpg").unlink()
    data = {"shapes": shapes, "imagePath": "i2.jpg", "imageData": embedded, "imageHeight": 40, "imageWidth": 60}
    (folder / "i2.json").write_text(json.dumps(data))
    (folder / "gone.json").write_text(json.dumps({"shapes": shapes, "imagePath": "gone.jpg", "imageData": None}))
    picture(folder / "bare.jpg")
    (folder / "bare.json").write_text(json.dumps({"shapes": [], "imagePath": "bare.jpg", "imageData": None}))
    return folder


def test_labelme(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = prepare(tmp_path, "labelme", write_labelme(tmp_path / "labels"))
    printed = capsys.readouterr().out
    assert "1 skipped, labelme file whose image (gone.jpg) is not there: gone.json" in printed
    assert "1 skipped, image without a label: bare" in printed
    assert "3 skipped, shape without area (point): i0.json[4]" in printed
    assert "3 skipped, shape without area (polygon): i0.json[5]" in printed
    data = FolderDataModule(str(root), image_size=65)
    assert data.class_names == {1: "cat", 2: "dog", 3: "no"}
    assert data.images("val").names == ["i0", "i1", "i2"]
    mask = read_index_mask(root / "masks/i2.png")
    assert np.array_equal(mask == 1, box(5, 5, 25, 30))
    assert np.array_equal(mask == 2, box(5, 40, 30, 50) | box(30, 2, 36, 11))
    assert (mask == 3).sum() == pytest.approx(np.pi * 16, abs=6)


def write_coco_tool(folder: Path) -> Path:
    """As labelling tools write it: an empty, a short and a missing segmentation, a foreign category, RLE and crowds."""
    square = [5, 5, 30, 5, 30, 25, 5, 25]
    crowd = uncompressed_rle(box(20, 20, 40, 40).astype(np.uint8))
    rle = uncompressed_rle(box(30, 40, 36, 50).astype(np.uint8))
    shapes = [[square, [1, 2, 3, 4]], [], [[1, 2, 3, 4]], None, {"size": list(SIZE), "counts": rle}]
    annotations = [
        {"id": 10 * i + k, "image_id": i, "category_id": 7 + k // 4, "iscrowd": 0, "segmentation": shape}
        for i in range(3)
        for k, shape in enumerate(shapes)
    ]
    del annotations[3]["segmentation"]
    annotations += [
        {"id": 90, "image_id": 0, "category_id": 7, "iscrowd": 1, "segmentation": {"size": SIZE, "counts": crowd}},
        {"id": 91, "image_id": 0, "category_id": 99, "segmentation": [square]},
        {"id": 92, "image_id": 77, "category_id": 7, "segmentation": [square]},
        {"id": 93, "image_id": 0, "category_id": 7, "segmentation": {"size": [3, 3], "counts": [9]}},
    ]
    names = ["default/i0.jpg", "default/i1.jpg", "i2.jpg", "gone.jpg", "bare.jpg"]
    for i, name in enumerate(names):
        if name != "gone.jpg":
            picture(folder / "images" / name, i)
    images = [{"id": i, "file_name": name, "height": 40, "width": 60} for i, name in enumerate(names)]
    categories = [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog: the, 2nd"}, {"id": 9, "name": "never used"}]
    (folder / "annotations").mkdir()
    content = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (folder / "annotations/instances_default.json").write_text(f"\ufeff{content}", encoding="utf-8")
    return folder


@pytest.mark.parametrize("named", ["", "annotations/instances_default.json"])
def test_coco_of_labelling_tools(tmp_path: Path, named: str, capsys: pytest.CaptureFixture) -> None:
    root = prepare(tmp_path, "coco", write_coco_tool(tmp_path / "labels") / named)
    printed = capsys.readouterr().out
    assert "6 skipped, annotation without a polygon of three points: 1, 2, 11, 12, 21, …" in printed
    assert "3 skipped, annotation without segmentation: 3, 13, 23" in printed
    assert "1 skipped, annotation of the unknown category 99: 91" in printed
    assert "1 skipped, annotation of an unknown image: 92" in printed
    assert "1 skipped, annotation with run lengths of another size than the image's: 93" in printed
    assert "3 skipped, polygon of less than three points besides others of its annotation: 0, 10, 20" in printed
    assert "1 skipped, image without a label: bare" in printed
    assert "gone.jpg" in printed
    data = FolderDataModule(str(root), image_size=65)
    assert data.class_names == {1: "cat", 2: "dog: the, 2nd"}
    assert data.images("val").names == ["default_i0", "default_i1", "i2"]
    expected = np.zeros(SIZE, np.uint8)
    expected[box(20, 20, 40, 40)] = 255
    expected[box(5, 5, 25, 30)] = 1
    expected[box(30, 40, 36, 50)] = 2
    assert np.array_equal(read_index_mask(root / "masks/default_i0.png"), expected)


@pytest.mark.parametrize("palette", [False, True])
def test_cvat(tmp_path: Path, palette: bool, capsys: pytest.CaptureFixture) -> None:
    source = tmp_path / "labels"
    lines = ["# label:color_rgb:parts:actions", "background:0,0,0::", "cat:128,0,0::", "dog:0,0,250::"]
    for i in range(4):
        picture(source / f"JPEGImages/i{i}.jpg", i)
        mask = np.zeros((*SIZE, 3), np.uint8)
        mask[5:20, 5:30] = 128, 0, 0
        mask[25:35, 5:30] = (1, 2, 3) if i == 3 else (0, 0, 250)
        image = Image.fromarray(mask)
        (source / "SegmentationClass").mkdir(exist_ok=True)
        (image.quantize(8) if palette else image).save(source / f"SegmentationClass/i{i}.png")
    (source / "labelmap.txt").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    root = prepare(tmp_path, "cvat", source)
    assert "1 skipped, mask with a colour that labelmap.txt lacks (1, 2, 3): i3.png" in capsys.readouterr().out
    data = FolderDataModule(str(root), image_size=65)
    assert data.class_names == {1: "cat", 2: "dog"}
    assert data.images("val").names == ["i0", "i1", "i2"]
    expected = np.zeros(SIZE, np.uint8)
    expected[5:20, 5:30], expected[25:35, 5:30] = 1, 2
    assert np.array_equal(read_index_mask(root / "masks/i1.png"), expected)


def write_cvat(source: Path, frames: list[str], labelmap: str = "background:0,0,0::\ncat:128,0,0::\n") -> Path:
    for i, frame in enumerate(frames):
        picture(source / f"JPEGImages/{frame}.jpg", i)
        mask = np.zeros((*SIZE, 3), np.uint8)
        mask[5 : 20 + i, 5:30] = 128, 0, 0
        (source / f"SegmentationClass/{frame}.png").parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(source / f"SegmentationClass/{frame}.png")
    (source / "labelmap.txt").write_text(labelmap)
    return source


def test_cvat_frames_of_one_name_in_two_folders(tmp_path: Path) -> None:
    frames = ["a/1", "b/1", "1", "b/c/2"]
    root = prepare(tmp_path, "cvat", write_cvat(tmp_path / "labels", frames))
    assert FolderDataModule(str(root)).images("val").names == ["1", "a_1", "b_1", "b_c_2"]
    for i, frame in enumerate(frames):
        name = frame.replace("/", "_")
        assert (root / f"images/{name}.jpg").read_bytes() == (tmp_path / f"labels/JPEGImages/{frame}.jpg").read_bytes()
        assert np.array_equal(read_index_mask(root / f"masks/{name}.png") == 1, box(5, 5, 20 + i, 30))


def test_cvat_ignore_is_ignored(tmp_path: Path) -> None:
    source = write_cvat(tmp_path / "labels", ["1"], "background:0,0,0::\nignore:128,0,0::\ncat:9,9,9::\n")
    mask = np.full((*SIZE, 3), 9, np.uint8)
    mask[:10] = 128, 0, 0
    Image.fromarray(mask).save(source / "SegmentationClass/1.png")
    root = prepare(tmp_path, "cvat", source)
    assert np.array_equal(read_index_mask(root / "masks/1.png"), np.where(mask[..., 0] == 9, 1, 255))


@pytest.mark.parametrize(
    ("labelmap", "message"),
    [
        ("background:0,0,0::\ncat:1,2,3::\ndog:1,2,3::", "gives cat and dog one colour, (1, 2, 3)"),
        ("background:0,0,0::\ncat:0,0,0::", "gives background and cat one colour"),
        ("cat:0,0,0::", "gives the background and cat one colour"),
        ("cat:1,2,3::\ncat:3,2,1::", "names cat twice"),
        ("cat:300,0,0::", "has the line 'cat:300,0,0::'"),
        ("cat:-1,0,0::", "has the line 'cat:-1,0,0::'"),
    ],
)
def test_cvat_labels_that_nobody_can_tell_apart_are_refused(
    tmp_path: Path, labelmap: str, message: str, capsys: pytest.CaptureFixture
) -> None:
    assert message in fails(capsys, tmp_path, "cvat", write_cvat(tmp_path / "labels", ["1"], labelmap))


def test_other_exports_of_cvat_are_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    export = tmp_path / "export"
    export.mkdir()
    (export / "annotations.xml").write_text("<annotations></annotations>")
    for source in (export, export / "annotations.xml"):
        message = fails(capsys, tmp_path, "cvat", source)
        assert 'is of the export "CVAT for images". Export the task as "Segmentation mask 1.1"' in message
    (export / "annotations.xml").rename(export / "instances_default.json")
    assert 'If it is the export "COCO 1.0", take --from coco' in fails(capsys, tmp_path, "cvat", export)
    (export / "labels.zip").write_bytes(b"PK")
    assert "labels.zip is a ZIP. Unzip it" in fails(capsys, tmp_path, "coco", export / "labels.zip")


def test_nothing_of_the_users_is_overwritten_or_mixed_in(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = write_labelme(tmp_path / "labels")
    own = tmp_path / "out/masks/i0.png"
    picture(own)
    before = own.read_bytes()
    assert "masks holds masks already, which may not be of these labels" in fails(capsys, tmp_path, "labelme", source)
    assert own.read_bytes() == before
    own.rename(tmp_path / "mine.png")
    picture(tmp_path / "out/images/i1.jpg", 77)
    for _ in range(2):
        assert "i1.jpg exists already and is another image" in fails(capsys, tmp_path, "labelme", source)
    (tmp_path / "out/images/i1.jpg").unlink()
    (tmp_path / "mine.png").rename(own.with_name("older.png"))
    assert "no labels, e.g. older.png: they are of another run" in fails(capsys, tmp_path, "labelme", source)
    other = write_coco_tool(tmp_path / "other")
    assert "masks holds masks already" in fails(capsys, tmp_path, "coco", other)
    own.with_name("older.png").unlink()
    prepare(tmp_path, "labelme", source)
    assert not (tmp_path / "out/.qgnet-prepare").exists()


def test_names_that_cannot_be_used_are_refused_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = tmp_path / "labels"
    picture(source / "i.jpg")
    for labels, message in ((["cat", "Cat"], "one name, Cat and cat"), ([" "], "expected printable letters")):
        shapes = [{"label": label, "points": [[1, 1], [9, 1], [9, 9]]} for label in labels]
        (source / "i.json").write_text(json.dumps({"shapes": shapes, "imagePath": "i.jpg"}))
        assert message in fails(capsys, tmp_path, "labelme", source)
        assert not (tmp_path / "out").exists()


def test_255_classes_of_a_tool_are_refused_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    shapes = [{"label": f"c{i:03d}", "points": [[i / 9, 1], [i / 9 + 9, 1], [9, 9]]} for i in range(255)]
    picture(tmp_path / "labels/i.jpg")
    (tmp_path / "labels/i.json").write_text(json.dumps({"shapes": shapes, "imagePath": "i.jpg"}))
    assert "has 255 classes; expected 1 to 254" in fails(capsys, tmp_path, "labelme", tmp_path / "labels")
    assert not (tmp_path / "out").exists()


def test_what_is_no_labels_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert "none does not exist" in fails(capsys, tmp_path, "coco", tmp_path / "none")
    empty = tmp_path / "empty"
    empty.mkdir()
    for tool, message in (("labelme", "no JSON"), ("coco", "0 COCO files"), ("cvat", "0 files labelmap.txt")):
        assert message in fails(capsys, tmp_path, tool, empty)
    assert "expected one of labelme, coco, cvat" in fails(capsys, tmp_path, "via", empty)
    (empty / "a.json").write_text("{")
    assert "a.json cannot be read as JSON" in fails(capsys, tmp_path, "coco", empty)
    (empty / "a.json").write_text('{"images": [{}], "annotations": [], "categories": []}')
    assert "a.json is no COCO file (KeyError: 'id')" in fails(capsys, tmp_path, "coco", empty)
    (empty / "a.json").write_text('{"images": [], "annotations": [], "categories": []}')
    assert "has 0 classes" in fails(capsys, tmp_path, "coco", empty)
    assert not (tmp_path / "out").exists()
    root = prepare(tmp_path, "coco", write_coco_tool(tmp_path / "labels"))
    assert f"{root} holds a data set already" in fails(capsys, tmp_path, "coco", tmp_path / "labels")


def test_a_killed_conversion_is_not_trusted_and_goes_through_when_started_again(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source = write_coco_tool(tmp_path / "labels")
    code = (
        "import sys, time\nfrom datamodules.prepare import labels\nreal = labels.write_plain_png\n"
        "def slow(*a):\n    real(*a)\n    print('written', flush=True)\n    time.sleep(60)\n"
        "labels.write_plain_png = slow\nfrom qgnet.commands import main\nmain(sys.argv[1:])"
    )
    out = tmp_path / "out"
    arguments = ["prepare", "folder", f"--root={out}", "--from", "coco", str(source)]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"written\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(SystemExit):
        qgnet(["prepare", "folder", f"--root={out}"])
    assert "classes.yaml does not exist" in capsys.readouterr().err
    qgnet(arguments)
    assert len(FolderDataModule(str(out)).images("val").names) == 3
