import contextlib
import hashlib
import http.server
import io
import json
import multiprocessing
import os
import shutil
import signal
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_data import write_coco, write_voc
from PIL import Image
from pycocotools.coco import COCO
from scipy.io import savemat
from torchvision.datasets import SBDataset
from torchvision.datasets.voc import DATASET_YEAR_DICT

from datamodules import Coco20iDataModule, Pascal5iDataModule
from datamodules.datasets import coco20i, pascal5i
from datamodules.datasets.counts import fold_counts
from datamodules.files.index import MaskIndex
from datamodules.files.sources import IndexMasks, MaskFacts
from datamodules.prepare.annotations import Skipped
from datamodules.prepare.coco_masks import draw_mask
from datamodules.prepare.download import RemoteFile
from qgnet.commands import main as qgnet

IDS = {"train": ["2007_000001", "2007_000002", "2008_000003"], "val": ["2007_000004", "2007_000005"]}
ONLY_SBD = "2008_000003"


class Server:
    """A folder over HTTP; counts what is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []

    def put(self, name: str, content: bytes) -> RemoteFile:
        (self.folder / name).write_bytes(content)
        return RemoteFile(f"{self.url}/{name}", hashlib.md5(content).hexdigest())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "served"
    folder.mkdir()
    serving = Server(folder)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            serving.asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as httpd:
        serving.url = f"http://127.0.0.1:{httpd.server_address[1]}"  # type: ignore[attr-defined]
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield serving
        httpd.shutdown()


def picture(seed: int, mode: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if mode == "RGB":
        return rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
    mask = np.zeros((60, 80), np.uint8)
    mask[5:55, 5 : 60 + seed] = 1 + seed  # more than 2,048 px
    return mask


def encoded(array: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


def tar(files: dict[str, bytes], mode: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture
def served_pascal(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A VOC and an SBD of five images, and lists that name them."""
    ids = [*IDS["train"], *IDS["val"]]
    voc, sbd = {"VOCdevkit/VOC2012/Annotations/2007_000001.xml": b"x"}, {}
    for seed, name in enumerate(ids):
        voc[f"VOCdevkit/VOC2012/JPEGImages/{name}.jpg"] = encoded(picture(seed, "RGB"), "JPEG")
        if name != ONLY_SBD:
            voc[f"VOCdevkit/VOC2012/SegmentationClass/{name}.png"] = encoded(picture(seed, "L"), "PNG")
        mat = io.BytesIO()
        other = picture(seed, "L") if name == ONLY_SBD else np.full((60, 80), 20, np.uint8)
        savemat(mat, {"GTcls": {"Segmentation": other}})
        sbd[f"benchmark_RELEASE/dataset/cls/{name}.mat"] = mat.getvalue()
    monkeypatch.setattr(pascal5i, "VOC", server.put("voc.tar", tar(voc, "w")))
    monkeypatch.setattr(pascal5i, "SBD", server.put("sbd.tgz", tar(sbd, "w:gz")))
    lists = tmp_path / "lists"
    lists.mkdir()
    for split, names in IDS.items():
        (lists / f"{split}.txt").write_text("\n".join(names) + "\n")
    monkeypatch.setattr(pascal5i, "PASCAL_LISTS", lists)
    return server


# five images of the classes 1 … 5, three for training
EXPECTED = {
    "training images, kept": (0, 3, 3, 3),
    "training images, dropped": (0, 3, 3, 3),
    "test pairs": (2, 0, 0, 0),
    "test images": (2, 0, 0, 0),
}


def test_pascal_is_fetched_converted_indexed_and_counted_once(
    served_pascal: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(pascal5i, "PASCAL_EXPECTED", EXPECTED)
    root = tmp_path / "pascal"
    qgnet(["prepare", "pascal5i", f"--root={root}"])
    assert f"{root} is ready." in capsys.readouterr().out
    for seed, name in enumerate([*IDS["train"], *IDS["val"]]):
        assert np.array_equal(np.asarray(Image.open(root / f"SegmentationClassAug/{name}.png")), picture(seed, "L"))
        assert (root / f"JPEGImages/{name}.jpg").exists()
    assert len(list(root.rglob("*.part"))) == 0
    assert not (root / "Annotations").exists()
    assert sorted(served_pascal.asked) == ["/sbd.tgz", "/voc.tar"]
    shutil.rmtree(root / "downloads")
    qgnet(["prepare", "pascal5i", f"--root={root}"])
    qgnet(["prepare", "pascal5i", f"--root={root}", "--check"])
    assert len(served_pascal.asked) == 2
    data = Pascal5iDataModule(str(root), fold=1, image_size=65)
    assert data.images("train").names == IDS["train"]


def test_a_killed_conversion_of_sbd_is_not_trusted_and_goes_on(
    served_pascal: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(pascal5i, "PASCAL_EXPECTED", EXPECTED)
    root = tmp_path / "pascal"
    process = multiprocessing.get_context("fork").Process(target=killed_while_converting, args=(root,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (root / f"SegmentationClassAug/{ONLY_SBD}.png").exists()
    with pytest.raises(SystemExit):
        qgnet(["prepare", "pascal5i", f"--root={root}", "--check"])
    qgnet(["prepare", "pascal5i", f"--root={root}"])
    assert f"{root} is ready." in capsys.readouterr().out
    mask = np.asarray(Image.open(root / f"SegmentationClassAug/{ONLY_SBD}.png"))
    assert np.array_equal(mask, picture(IDS["train"].index(ONLY_SBD), "L"))
    assert sorted(served_pascal.asked) == ["/sbd.tgz", "/voc.tar"]


def killed_while_converting(root: Path) -> None:
    """``prepare pascal5i`` in this process, which is killed when the first of SBD's masks is half written."""

    def half(image: Image.Image, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"\x89PNG half")
        os.kill(os.getpid(), signal.SIGKILL)

    pascal5i.processes = lambda: contextlib.nullcontext(SimpleNamespace(map=lambda f, *lists, **_: map(f, *lists)))
    Image.Image.save = half
    qgnet(["prepare", "pascal5i", f"--root={root}"])


def test_counts_that_differ_end_with_an_error(
    served_pascal: Server, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stop:
        qgnet(["prepare", "pascal5i", f"--root={tmp_path / 'pascal'}"])
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert any(
        line.split() == ["fold", "0:", "test", "pairs", "2", "365", "<-", "differs"]
        for line in printed.out.splitlines()
    )
    assert "16 count(s) differ from the literature's" in printed.err


def fails(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        qgnet(list(arguments))
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_check_downloads_nothing(served_pascal: Server, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for kind in ("pascal5i", "coco20i", "fss1000", "folder"):
        assert "not" in fails(capsys, "prepare", kind, f"--root={tmp_path / 'none'}", "--check")
    assert not served_pascal.asked
    assert not (tmp_path / "none").exists()


def test_another_list_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = write_voc(tmp_path / "voc", per_class=1)
    before = (root / "ImageSets/Segmentation/train.txt").read_text()
    assert "is another list (10 ids; expected the 5953" in fails(capsys, "prepare", "pascal5i", f"--root={root}")
    assert (root / "ImageSets/Segmentation/train.txt").read_text() == before


def test_offline_names_the_file_and_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(pascal5i, "VOC", RemoteFile("http://127.0.0.1:9/voc.tar", "0"))
    message = fails(capsys, "prepare", "pascal5i", f"--root={tmp_path / 'p'}")
    assert "http://127.0.0.1:9/voc.tar" in message
    assert str(tmp_path / "p/downloads/voc.tar") in message


@pytest.fixture
def served_coco(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """COCO's three archives of tiny photographs; returns the folder that they were made of."""
    source = write_coco(tmp_path / "source", per_class=1)
    files = {}
    for key, folder in (("train", "train2014"), ("val", "val2014"), ("annotations", "annotations")):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for path in sorted((source / folder).iterdir()):
                archive.write(path, f"{folder}/{path.name}")
        files[key] = server.put(f"{key}.zip", stream.getvalue())
    monkeypatch.setattr(coco20i, "COCO_FILES", {2014: files})
    monkeypatch.setattr(coco20i, "COCO_EXPECTED", {})
    return source


def slow_mask(coco: COCO, image: dict, parts: str, crowds: str) -> np.ndarray:
    """The composition by pycocotools' own annToMask."""
    class_of = {category: i for i, category in enumerate(sorted(coco.getCatIds()), start=1)}
    mask = np.zeros((image["height"], image["width"]), np.uint8)
    annotations = coco.imgToAnns[image["id"]]
    for crowd in (1, 0):
        for annotation in annotations:
            if annotation["iscrowd"] != crowd or (crowd and crowds == "background"):
                continue
            if parts == "first-polygon" and not crowd:
                inside = coco.annToMask(annotation | {"segmentation": annotation["segmentation"][:1]}) == 1
            else:
                inside = coco.annToMask(annotation) == 1
            mask[inside] = 255 if crowd else class_of[annotation["category_id"]]
    return mask


@pytest.mark.parametrize(("parts", "crowds"), [("full", "ignore"), ("first-polygon", "background")])
def test_coco_is_fetched_drawn_and_indexed(
    served_coco: Path, server: Server, tmp_path: Path, parts: str, crowds: str
) -> None:
    root = tmp_path / "coco"
    arguments = ["prepare", "coco20i", f"--root={root}", f"--parts={parts}", f"--crowds={crowds}"]
    qgnet(arguments)
    qgnet(arguments)
    assert len(server.asked) == 3
    coco = COCO(served_coco / "annotations/instances_val2014.json")
    masks = root / f"masks/{parts}-crowd-{crowds}/val2014"
    assert len(list(masks.iterdir())) == 40
    for image in coco.dataset["images"]:
        drawn = np.asarray(Image.open(masks / image["file_name"].replace(".jpg", ".png")))
        assert np.array_equal(drawn, slow_mask(coco, image, parts, crowds))
    data = Coco20iDataModule(str(root), parts=parts, crowds=crowds)  # type: ignore[arg-type]
    assert len(data.images("val").names) == 40


def test_coco_on_photographs(real_data: Path) -> None:
    coco = COCO(real_data / "coco_tiny/annotations/instances_val2017.json")
    class_of = {category: i for i, category in enumerate(sorted(coco.getCatIds()), start=1)}
    assert len(class_of) == 80
    several, skipped = 0, Skipped()
    for image in coco.dataset["images"]:
        annotations = coco.imgToAnns[image["id"]]
        several += any(len(a["segmentation"]) > 1 for a in annotations if not a["iscrowd"])
        for parts in ("full", "first-polygon"):
            drawn = draw_mask(image["height"], image["width"], annotations, class_of, skipped, parts)  # type: ignore[arg-type]
            assert np.array_equal(drawn, slow_mask(coco, image, parts, "ignore"))
            assert not skipped.names
    assert several > 5


def test_archives_are_those_that_torchvision_knows() -> None:
    voc = DATASET_YEAR_DICT["2012"]
    assert RemoteFile(voc["url"], voc["md5"]) == pascal5i.VOC
    assert voc["base_dir"] == pascal5i.VOC_FOLDER
    assert RemoteFile(SBDataset.url, SBDataset.md5) == pascal5i.SBD


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_shipped_lists_give_the_literatures_counts(real_data: Path, split: str) -> None:
    """From the class areas of all masks, without any photograph."""
    stored = json.loads((real_data / "voc_aug_areas.json").read_text())

    def index(names: list[str]) -> MaskIndex:
        rows = [stored[name] for name in names]
        without = ("0", "255")
        return MaskIndex([MaskFacts(h, w, {int(c): n for c, n in a.items() if c not in without}) for h, w, a in rows])

    lists = {s: (pascal5i.PASCAL_LISTS / f"{s}.txt").read_text().split() for s in ("train", "val")}
    indexes = [index(lists[part]) for part in ("train", "val")]
    counts = fold_counts(pascal5i.Pascal5i(), *indexes, pascal5i.PASCAL_EXPECTED)
    checked = [c for c in counts if c.expected is not None and (split == "train") == ("training" in c.what)]
    assert len(checked) == 8
    assert all(c.found == c.expected for c in checked)


def test_the_val_masks_give_the_literatures_test_pairs(real_data: Path) -> None:
    """Through the real index, on the masks themselves."""
    names = (pascal5i.PASCAL_LISTS / "val.txt").read_text().split()
    masks = [real_data / "voc_val_masks/SegmentationClassAug" / f"{name}.png" for name in names]
    index = MaskIndex.build(IndexMasks(names, masks, masks, range(1, 21)))
    assert not index.bad
    for fold in range(4):
        novel = range(5 * fold + 1, 5 * fold + 6)
        assert sum(len(index.images_of(c, 2048)) for c in novel) == pascal5i.PASCAL_EXPECTED["test pairs"][fold]
        assert len(index.with_any(novel, 2048)) == pascal5i.PASCAL_EXPECTED["test images"][fold]
