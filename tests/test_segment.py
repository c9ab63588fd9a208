"""``qgnet segment``: the command, what it writes, what it refuses, and going on where it was killed."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageDraw
from pycocotools import mask as coco_masks

from qgnet.commands import main
from qgnet.weights.store import PRIOR_FORMAT

MODEL = ["--model", "matching", "--encoder", "test_resnet", "--encoder-weights", "random", "--image-size", "65"]
MACHINE = ["--accelerator", "cpu", "--workers", "0"]
NUMBER = 5


def draw(path: Path, seed: int, size: tuple[int, int] = (90, 70)) -> np.ndarray:
    """An image of a red disc on green; its mask."""
    rng = np.random.default_rng(seed)
    mask = Image.new("L", size)
    x, y = rng.integers(25, 45, 2).tolist()
    ImageDraw.Draw(mask).ellipse((x - 18, y - 18, x + 18, y + 18), fill=255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.composite(Image.new("RGB", size, (200, 30, 40)), Image.new("RGB", size, (30, 160, 60)), mask).save(path)
    return np.asarray(mask)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``photos/`` with images in two folders, and ``a.jpg`` with its mask ``a.png``."""
    monkeypatch.chdir(tmp_path)
    for number in range(NUMBER):
        draw(tmp_path / "photos" / ("holiday" if number % 2 else ".") / f"{number}.jpg", number)
    Image.fromarray(draw(tmp_path / "a.jpg", 100)).save(tmp_path / "a.png")
    return tmp_path


def segment(*arguments: str, model: list[str] = MODEL, support: bool = True) -> None:
    torch.manual_seed(0)
    given = ["--support", "a.jpg", "a.png"] if support else []
    main(["segment", "photos", *given, "--out", "out", *MACHINE, *model, *arguments])


def table() -> list[dict[str, str]]:
    with open("out/segments.csv", newline="") as file:
        return list(csv.DictReader(file))


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*.png")}


def refused(capsys: pytest.CaptureFixture, *arguments: str, **options: object) -> str:
    with pytest.raises(SystemExit) as stop:
        segment(*arguments, **options)
    assert stop.value.code == 2
    assert not Path("out/segments.csv").exists()
    return capsys.readouterr().err


def test_every_image_gets_its_files(folder: Path) -> None:
    segment("--format", "index", "coco", "labelme", "overlay", "probability", "--threshold", "0.5")
    names = ["0", "2", "4", "holiday/1", "holiday/3"]
    rows = table()
    assert [Path(row["image"]).with_suffix("").as_posix() for row in rows] == [f"photos/{name}" for name in names]
    coco = json.loads(Path("out/annotations.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == [f"{name}.jpg" for name in names]
    by_image = {a["image_id"]: a for a in coco["annotations"]}
    for number, (name, row) in enumerate(zip(names, rows, strict=True), start=1):
        mask = np.asarray(Image.open(f"out/{name}.png"))
        assert mask.shape == (70, 90)
        assert int(row["area"]) == (mask == 1).sum()
        assert (row["empty"] == "True") == (not mask.any())
        assert 0 <= float(row["score"]) <= 1
        probability = np.asarray(Image.open(f"out/probabilities/{name}.png"))
        assert np.array_equal(mask, probability > 127)
        assert Image.open(f"out/overlays/{name}.jpg").size == (90, 70)
        shapes = json.loads(Path(f"out/labelme/{name}.json").read_text())
        assert np.array_equal(filled([shape["points"] for shape in shapes["shapes"]]), mask)
        if mask.any():
            assert np.array_equal(coco_masks.decode(by_image[number]["segmentation"]), mask)
    assert Image.open("out/contact_sheet.jpg").size[0] > 90


def filled(polygons: list[list[list[float]]]) -> np.ndarray:
    """Pixels whose centres lie within polygons, by the even-odd rule."""
    from skimage.measure import points_in_poly  # noqa: PLC0415

    y, x = np.mgrid[:70, :90] + 0.5
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    inside = np.zeros(len(points), bool)
    for polygon in polygons:
        inside |= points_in_poly(points, polygon)
    return inside.reshape(70, 90).astype(np.uint8)


def test_polygons_keep_holes_and_parts() -> None:
    from qgnet.outputs.polygons import polygons  # noqa: PLC0415

    mask = np.zeros((70, 90), np.uint8)
    mask[5:40, 5:50] = 1
    mask[10:20, 10:20] = mask[25:35, 30:45] = 0
    mask[50, 60] = mask[60:70, 80:90] = 1
    found = polygons(mask)
    assert len(found) == 3
    assert np.array_equal(filled([polygon.tolist() for polygon in found]), mask)


def test_done_once_unless_something_changed(folder: Path, capsys: pytest.CaptureFixture) -> None:
    segment()
    before = times(folder / "out")
    assert len(before) == NUMBER
    segment()
    assert "5 of them done before" in capsys.readouterr().out
    assert times(folder / "out") == before
    draw(folder / "photos/0.jpg", 50)
    segment()
    changed = {path for path, time_ in times(folder / "out").items() if time_ != before[path]}
    assert changed == {str(folder / "out/0.png")}
    Image.fromarray(255 - np.asarray(Image.open("a.png"))).save("a.png")
    segment()
    assert "done before" not in capsys.readouterr().out.splitlines()[-3]
    assert not set(times(folder / "out").items()) & set(before.items())


def test_killed_and_run_again(folder: Path) -> None:
    for number in range(NUMBER, 80):
        draw(folder / "photos" / f"{number}.jpg", number)
    line = ["segment", "photos", "--support", "a.jpg", "a.png", "--out", "out", *MACHINE, *MODEL, "--batch-size", "1"]
    run = [sys.executable, "-c", "import sys, torch; torch.manual_seed(0); from qgnet.commands import main; main()"]
    process = subprocess.Popen([*run, *line], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(list(Path("out").rglob("*.png"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    records = list(Path("out/.qgnet").rglob("[!.]*.json"))
    assert 0 < len(records) < 80
    for path in Path("out").rglob("[!.]*.png"):
        Image.open(path).load()
    done = {path.stem: Path(f"out/{path.relative_to('out/.qgnet').with_suffix('.png')}") for path in records}
    before = {name: path.stat().st_mtime_ns for name, path in done.items()}
    segment("--batch-size", "1")
    assert {name: path.stat().st_mtime_ns for name, path in done.items()} == before
    assert len(table()) == 80
    assert not list(Path("out").rglob("*.part"))


def test_two_processes_share_the_images(folder: Path) -> None:
    """They say what one says, and the terminal shows our own lines and the progress bar only."""
    line = ["segment", "photos", "--support", "a.jpg", "a.png", *MACHINE, "--image-size", "65", "--batch-size", "2"]
    two = start_qgnet(*line, "--out", "two", "--devices", "2")
    main([*line, "--out", "one"])
    out, error = two.communicate(timeout=200)
    assert two.returncode == 0, error[-3000:]
    parts = {stream: re.split(r"[\r\n]+", text) for stream, text in (("out", out), ("error", error))}
    shown = [part for part in parts["out"] if part.strip() and not part.startswith("Predicting")]
    assert shown[0].startswith("Nothing is left empty by its score")  # at 65 px it is not calibrated
    assert shown[1].startswith("object: 1 support(s)")
    assert shown[2].startswith("  IoU to expect")
    assert shown[3] == "5 images"
    assert shown[4] == "  in squares of 65 px"
    assert shown[5].startswith("5 segmented")
    assert len(shown) == 6
    assert not [part for part in parts["error"] if part.strip() and not part.startswith("Predicting")]
    assert Path("two/segments.csv").read_text() == Path("one/segments.csv").read_text()
    masks = [path.relative_to("one") for path in Path("one").rglob("*.png")]
    assert len(masks) == NUMBER
    for name in masks:
        assert np.array_equal(np.asarray(Image.open("two" / name)), np.asarray(Image.open("one" / name)))


def start_qgnet(*arguments: str) -> subprocess.Popen:
    """The real command in a process of its own, on one core."""
    command = [str(Path(sys.executable).parent / "qgnet"), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_several_classes_from_a_folder(folder: Path) -> None:
    for number, name in enumerate(("disc", "lawn")):
        for shot in range(2):
            mask = draw(folder / f"labelled/images/{shot}.jpg", 200 + shot)
            Path(f"labelled/masks/{name}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(255 - mask if number else mask).save(f"labelled/masks/{name}/{shot}.png")
    segment("--supports", "labelled", "--format", "binary", "coco", "--polygons", support=False)
    assert {row["class"] for row in table()} == {"disc", "lawn"}
    both = [np.asarray(Image.open(f"out/{name}/holiday/3.png")) for name in ("disc", "lawn")]
    assert not ((both[0] > 0) & (both[1] > 0)).any()
    coco = json.loads(Path("out/annotations.json").read_text())
    assert [category["name"] for category in coco["categories"]] == ["disc", "lawn"]


def test_an_image_that_cannot_be_read_is_left_out(folder: Path, capsys: pytest.CaptureFixture) -> None:
    Path("photos/broken.jpg").write_bytes(b"not an image")
    with pytest.raises(SystemExit) as stop:
        segment()
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert "photos/broken.jpg" in said
    assert "1 of 6 images could not be read" in said
    assert len(table()) == NUMBER


def test_displayed_orientation(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open("photos/0.jpg").save("photos/turned.jpg", exif=exif)
    segment()
    assert Image.open("out/turned.png").size == (70, 90)


def test_images_of_one_name_keep_their_endings(folder: Path, capsys: pytest.CaptureFixture) -> None:
    draw(folder / "photos/0.png", 7)
    draw(folder / "more/0.jpg", 8)
    segment()
    assert {path.name for path in Path("out").glob("0*.png")} == {"0.jpg.png", "0.png.png"}
    with pytest.raises(SystemExit) as stop:
        main(["segment", "photos/0.jpg", "more", "--support", "a.jpg", "a.png", "--out", "two", *MACHINE, *MODEL])
    assert stop.value.code == 2
    assert "would have the same name" in capsys.readouterr().err


def test_tiles(folder: Path) -> None:
    draw(folder / "photos/large.jpg", 3, size=(200, 150))
    segment("--tile")
    assert Image.open("out/large.png").size == (200, 150)


def test_masks_that_cannot_be_learnt_from(folder: Path, capsys: pytest.CaptureFixture) -> None:
    for content, message in (
        (np.zeros((70, 90), np.uint8), "is empty"),
        (np.full((70, 90), 255, np.uint8), "marks everything"),
        (np.eye(60, dtype=np.uint8) * 255, "60x60 px, the image 90x70 px"),
    ):
        Image.fromarray(content).save("a.png")
        assert message in refused(capsys)
    assert "none.png does not exist" in refused(capsys, "--support", "a.jpg", "none.png", support=False)


def test_what_is_refused_before_the_work(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert "either --support IMAGE MASK" in refused(capsys, support=False)
    assert "either --support" in refused(capsys, "--supports", "photos")
    assert "not laid out as expected" in refused(capsys, "--supports", "photos", support=False)
    assert "lies in the folder of images" in refused(capsys, "--out", "photos/out")
    assert "invalid choice: 'gif'" in refused(capsys, "--format", "gif")
    assert "Choose one of them" in refused(capsys, "--format", "index", "binary")
    assert "Take 57 or 65" in refused(capsys, "--image-size", "64")
    assert "between 0 and 1" in refused(capsys, "--threshold", "2")
    Path("nothing").mkdir()
    Path("nothing/notes.txt").touch()
    with pytest.raises(SystemExit):
        main(["segment", "nothing", "--support", "a.jpg", "a.png", "--out", "out", *MACHINE, *MODEL])
    assert "nothing holds no images" in capsys.readouterr().err
    torch.save({"format": PRIOR_FORMAT, "state_dict": {}}, "prior_extractor.ckpt")
    for file, message in (("prior_extractor.ckpt", "is of stage 1"), ("none.ckpt", "does not exist")):
        assert message in refused(capsys, "--ckpt", file, model=[])
    assert "no model 'qgnet/none'" in refused(capsys, "--model", "qgnet/none", model=[])


def test_two_classes_of_one_name(folder: Path, capsys: pytest.CaptureFixture) -> None:
    mask = draw(folder / "labelled/images/0.jpg", 1)
    Path("labelled/masks").mkdir()
    Image.fromarray((mask > 0).astype(np.uint8)).save("labelled/masks/0.png")
    Path("labelled/classes.yaml").write_text(yaml.safe_dump({1: "disc", 2: "disc"}))
    assert "gives the classes 1 and 2 one name" in refused(capsys, "--supports", "labelled", support=False)
