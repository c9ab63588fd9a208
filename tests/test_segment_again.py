"""``qgnet segment`` into a folder that it has written to before: what is done again, what is moved aside."""

import csv
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_segment import MACHINE, MODEL, draw

from datamodules.files.images import first_page
from qgnet.commands import main
from qgnet.outputs import formats

OUT = Path("out")
RECORD = OUT / ".qgnet/0.json"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``photos/`` with two images, ``a.jpg`` and ``b.jpg`` with masks; the current folder."""
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        draw(Path(f"photos/{number}.jpg"), number)
    for name in ("a", "b"):
        Image.fromarray(draw(Path(f"{name}.jpg"), ord(name))).save(f"{name}.png")


def segment(*arguments: str, photos: str = "photos", support: str = "a", out: str = "out") -> None:
    torch.manual_seed(0)  # of the encoder's weights
    given = ["--support", f"{support}.jpg", f"{support}.png"]
    main(["segment", photos, *given, "--out", out, *MACHINE, *MODEL, *arguments])


def refused(capsys: pytest.CaptureFixture, *arguments: str, code: int = 2) -> str:
    with pytest.raises(SystemExit) as stop:
        segment(*arguments)
    assert stop.value.code == code
    return capsys.readouterr().err


def written(path: str | Path = OUT) -> list[str]:
    """All files but records and the lock."""
    found = (file.relative_to(path).as_posix() for file in Path(path).rglob("*") if file.is_file())
    return sorted(name for name in found if not name.startswith(".qgnet/"))


RUN = ["0.png", "1.png", "contact_sheet.jpg", "segments.csv"]


def test_what_is_lost_is_written_again(capsys: pytest.CaptureFixture) -> None:
    segment("--format", "index", "overlay")
    (OUT / "0.png").unlink()
    (OUT / "overlays/1.jpg").write_bytes(b"")
    before = (OUT / "1.png").stat().st_mtime_ns
    segment("--format", "index", "overlay")
    assert "done before" not in capsys.readouterr().out
    assert Image.open(OUT / "0.png").size == Image.open(OUT / "overlays/1.jpg").size == (90, 70)
    assert (OUT / "1.png").stat().st_mtime_ns != before
    segment("--format", "index", "index")
    assert "2 of them done before" in capsys.readouterr().out
    assert (OUT / "overlays/0.jpg").is_file()


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def without(key: str) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        content = json.loads(file.read_text())
        del (content if key in content else content["record"])[key]
        file.write_text(json.dumps(content))

    return spoil


def changed(**values: object) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        content = json.loads(file.read_text())
        file.write_text(json.dumps({**content, "record": content["record"] | values}))

    return spoil


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "torn": lambda file: file.write_bytes(file.read_bytes()[:90]),
    "not UTF-8": lambda file: file.write_bytes(b'{"run": "\xff"}'),
    "another type": lambda file: file.write_text("[1]"),
    "very deep": lambda file: file.write_text("[" * 100_000),
    "without its checksum": without("sha256"),
    "without segments": without("segments"),
    "of other types": changed(stamp="now", segments=3, size=None),
    "of an earlier version": lambda file: file.write_text(json.dumps({"run": "", "file": "", "segments": []})),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_record_is_of_an_image_to_be_done_again(how: str, capsys: pytest.CaptureFixture) -> None:
    segment()
    whole = RECORD.read_bytes()
    BROKEN[how](RECORD)
    segment()
    said = capsys.readouterr().out
    assert "1 of them done before" in said
    assert "2 segmented" in said
    assert RECORD.read_bytes() == whole
    assert written() == RUN


def test_a_record_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    segment()
    read = Path.read_text
    spoilt = [RECORD]

    def refuse(path: Path, *arguments: object, **options: object) -> str:
        if path in spoilt:
            spoilt.remove(path)
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", refuse)
    segment()
    assert "1 of them done before" in capsys.readouterr().out


def test_a_folder_where_a_file_belongs_is_named_before_the_work(capsys: pytest.CaptureFixture) -> None:
    for file in (RECORD, OUT / "0.png"):
        file.mkdir(parents=True)
        assert f"{file} is a folder" in refused(capsys)
        file.rmdir()
    assert written() == []


def test_the_images_folder_was_moved(capsys: pytest.CaptureFixture) -> None:
    segment("--format", "index", "labelme")
    os.rename("photos", "images")
    segment("--format", "index", "labelme", photos="images")
    assert "2 of them done before" in capsys.readouterr().out
    with open(OUT / "segments.csv", newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["images/0.jpg", "images/1.jpg"]
    labelme = OUT / "labelme/0.json"
    assert json.loads(labelme.read_text())["imagePath"] == "../../images/0.jpg"
    assert written() == sorted([*RUN, "labelme/0.json", "labelme/1.json"])
    labelme.write_text("{")
    with pytest.raises(SystemExit):
        segment("--format", "labelme", photos="images")
    assert f"{labelme} is no longer a labelme file" in capsys.readouterr().err


def test_labelme_finds_its_image_wherever_both_are() -> None:
    Path("elsewhere").mkdir()
    Path("linked").symlink_to("elsewhere")
    main(
        [
            "segment",
            "photos",
            "--support",
            "a.jpg",
            "a.png",
            "--out",
            "linked/out",
            "--format",
            "labelme",
            *MACHINE,
            *MODEL,
        ]
    )
    file = Path("elsewhere/out/labelme/0.json")
    path = json.loads(file.read_text())["imagePath"]
    assert path == "../../../photos/0.jpg"
    assert (file.parent / path).samefile("photos/0.jpg")
    mask = np.zeros((3, 3), np.uint8)
    of_zip = formats.Result({"a": formats.Segment("a", mask, mask.astype(np.float32), 0, {})})
    formats.write_labelme(Path("zip"), "x", Path("photos/x.jpg"), of_zip, image_path="x.jpg")
    assert json.loads(Path("zip/labelme/x.json").read_text())["imagePath"] == "x.jpg"


def test_what_another_support_found_is_moved_aside(capsys: pytest.CaptureFixture) -> None:
    segment("--format", "index", "overlay", "coco")
    Path("photos/1.jpg").rename("gone.jpg")
    draw(Path("photos/0.png"), 5)
    segment(support="b")
    said = capsys.readouterr().out
    assert "Moved to out/.qgnet-earlier" in said
    assert "0.png, overlays/0.jpg" in said
    stale = ["0.png", "1.png", "annotations.json", "overlays/0.jpg", "overlays/1.jpg"]
    assert written(OUT / ".qgnet-earlier") == stale
    now = ["0.jpg.png", "0.png.png", "contact_sheet.jpg", "segments.csv"]
    assert [name for name in written() if not name.startswith(".")] == now
    assert sorted(path.name for path in (OUT / ".qgnet").glob("*.json")) == ["0.jpg.json", "0.png.json"]
    segment(support="b")
    assert "Of earlier runs" not in capsys.readouterr().out


def test_the_mask_of_an_image_that_is_broken_by_now(capsys: pytest.CaptureFixture) -> None:
    segment()
    Path("photos/0.jpg").write_bytes(b"not an image")
    assert "photos/0.jpg cannot be decoded" in refused(capsys, code=1)
    assert written() == [".qgnet-earlier/0.png", *RUN[1:]]


def test_other_formats_of_one_run_stay_and_other_images_too() -> None:
    """All these are still right: the supports, the model and the images are the same."""
    segment("--format", "index")
    segment("--format", "overlay")
    draw(Path("more/2.jpg"), 2)
    segment(photos="more")
    assert written() == sorted([*RUN, "2.png", "overlays/0.jpg", "overlays/1.jpg"])
    segment("--format", "binary")
    assert set(np.unique(np.asarray(Image.open(OUT / "0.png")))) <= {0, 255}
    segment("--format", "index")
    assert set(np.unique(np.asarray(Image.open(OUT / "0.png")))) <= {0, 1}


def test_a_mask_that_nobody_has_recorded_is_not_overwritten() -> None:
    """One that was made by hand, say."""
    OUT.mkdir()
    (OUT / "0.png").write_bytes(b"by hand")
    segment()
    assert (OUT / ".qgnet-earlier/0.png").read_bytes() == b"by hand"
    assert Image.open(OUT / "0.png").size == (90, 70)


def test_an_image_that_is_exchanged_while_it_is_segmented(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def exchange(path: Path, data: bytes) -> tuple[np.ndarray, int]:
        if path.stem == "0":
            draw(path, 7, size=(60, 60))
        else:
            path.unlink()
        return first_page(path, data)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr("datamodules.input_images.first_page", exchange)
        segment("--format", "index")
    assert written() == RUN
    assert Image.open("out/0.png").size == (90, 70)
    segment("--format", "index")
    assert "1 images\n" in capsys.readouterr().out
    assert Image.open("out/0.png").size == (60, 60)
    for number in range(2):
        draw(Path(f"photos/{number}.jpg"), number + 7)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr("datamodules.input_images.first_page", exchange)
        said = refused(capsys, "--format", "overlay", code=1)
    assert "photos/0.jpg changed while it was segmented" in said
    assert "photos/1.jpg does not exist" in said


def test_two_runs_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    from qgnet.commands import segment_run  # noqa: PLC0415

    make, said = segment_run.fingerprint_of, []

    def meanwhile(*arguments: object) -> str:
        monkeypatch.setattr(segment_run, "fingerprint_of", make)
        said.append(refused(capsys))
        return make(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(segment_run, "fingerprint_of", meanwhile)
    segment()
    assert f"Another `qgnet segment` (process {os.getpid()}) writes to out" in said[0]
    segment()
    assert "2 of them done before" in capsys.readouterr().out


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    save = Image.Image.save

    def fail(image: Image.Image, file: Path, *arguments: object, **options: object) -> None:
        save(image, file, *arguments, **options)  # type: ignore[arg-type]
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(Image.Image, "save", fail)
        said = refused(capsys)
    assert "out/0.png does not fit on its disk (No space left on device)" in said
    assert written() == []
    assert not list(OUT.rglob("*.part"))
    (OUT / ".qgnet/.0123456789abcdef.part").touch()  # of a run that was killed
    segment()
    assert written() == RUN
    assert not list(OUT.rglob("*.part"))
