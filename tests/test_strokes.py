"""Rough strokes: what they say by themselves, in the command and in Python, and what they are grown to."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

from qgnet.commands import main
from qgnet.common.errors import InputError
from qgnet.inference import supports
from qgnet.inference.segmenter import Segmenter
from qgnet.inference.snap import grow, snap

SIZE = (120, 160)
ROWS, COLUMNS = np.mgrid[: SIZE[0], : SIZE[1]]
DISC = (ROWS - 60) ** 2 + (COLUMNS - 70) ** 2 < 30**2
GREY, WHITE, BLACK = 128, 255, 0


def scene(seed: int = 0, scale: int = 1) -> np.ndarray:
    """A red disc on green, both uneven."""
    pixels = np.where(DISC[..., None], (190, 40, 40), (40, 150, 60)) + np.random.default_rng(seed).normal(
        0, 12, (*SIZE, 3)
    )
    return np.kron(pixels.clip(0, 255).astype(np.uint8), np.ones((scale, scale, 1), np.uint8))


def painted(canvas: int = GREY, around: bool = True, width: int = 3, soft: bool = False) -> Image.Image:
    """White across the disc, and black beside it."""
    image = Image.new("L", SIZE[::-1], canvas)
    draw = ImageDraw.Draw(image)
    draw.line((55, 55, 85, 65), WHITE, width)
    if around:
        draw.line((20, 10, 20, 110), BLACK, width)
        draw.line((130, 10, 140, 110), BLACK, width)
    return image.filter(ImageFilter.GaussianBlur(0.7)) if soft else image


def indexed(image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    return np.where(values == WHITE, 1, np.where(values == BLACK, 0, 255)).astype(np.uint8)


def strokes_read(mask: object, scribbles: bool = True) -> np.ndarray:
    """The strokes of a mask, not grown."""
    with patch.object(supports, "grow", lambda image, strokes: strokes):
        return supports.read_supports([(scene(), mask)], None, scribbles)["object"][0][1]


def overlap(mask: np.ndarray, truth: np.ndarray = DISC) -> float:
    return ((mask == 1) & truth).sum() / ((mask == 1) | truth).sum()


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "I;16"])
def test_white_is_object_and_black_background(tmp_path: Path, mode: str) -> None:
    image, expected = painted(), indexed(painted())
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    image = image if mode in ("L", "I;16") else image.convert(mode)
    image.save(tmp_path / "strokes.png")
    assert np.array_equal(strokes_read(tmp_path / "strokes.png"), expected)
    if mode != "I;16":
        assert np.array_equal(strokes_read(image), expected)


def test_the_same_by_numbers(tmp_path: Path) -> None:
    expected = indexed(painted())
    Image.fromarray(expected).save(tmp_path / "strokes.png")
    for mask in (
        tmp_path / "strokes.png",
        expected,
        expected.tolist(),
        torch.from_numpy(expected),
        np.asarray(painted()),
    ):
        assert np.array_equal(strokes_read(mask), expected)


def test_soft_edges_of_a_brush_say_nothing() -> None:
    found = strokes_read(painted(width=9, soft=True))
    assert 0 < (found == 1).sum() < (np.asarray(painted(width=9)) == WHITE).sum()
    assert not ((found == 0) & (np.asarray(painted(width=9)) != BLACK)).any()


@pytest.mark.parametrize("soft", [False, True])
def test_on_a_black_canvas_black_is_not_painted(soft: bool, capsys: pytest.CaptureFixture) -> None:
    canvas = painted(BLACK, around=False, width=9, soft=soft)
    for mask in (canvas, *([np.asarray(canvas) > 0, (np.asarray(canvas) > 0).astype(np.uint8)] if not soft else [])):
        found = strokes_read(mask)
        assert "no stroke on the background" in capsys.readouterr().out
        assert (found == 1).sum() > 100
        background = np.argwhere(found == 0)
        assert len(background)
        assert all(row in (0, SIZE[0] - 1) or column in (0, SIZE[1] - 1) for row, column in background)


def test_strokes_that_cannot_be_used() -> None:
    for canvas, message in (
        (np.full(SIZE, GREY, np.uint8), "without white"),
        (np.zeros(SIZE, np.uint8), "without white"),
        (np.full(SIZE, 255, np.uint8), "all white, or transparent"),
        (Image.new("RGBA", SIZE[::-1], (0, 0, 0, 0)), "all white, or transparent"),
        (np.asarray(painted())[:100], "Both must be of one size"),
        (np.where(ROWS % 5, GREY, WHITE).astype(np.uint8), "near every border"),
    ):
        with pytest.raises(InputError, match=message):
            strokes_read(canvas)
    with pytest.raises(InputError, match="Mark some background with 0"):
        strokes_read(np.where(DISC, 1, 255), scribbles=False)


def test_the_command_learns_from_strokes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strokes find nearly as much as the whole mask; without the flag they are all of the object."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    Image.fromarray(scene(1)).save("photos/b.png")
    Image.fromarray(scene()).save("a.png")
    Image.fromarray(DISC).save("whole.png")
    painted().save("strokes.png")
    painted(BLACK, around=False).save("white.png")
    found = {}
    for mask, flag in (("whole", ""), ("strokes", "--scribbles"), ("white", "--scribbles"), ("white", "")):
        line = [
            "segment",
            "photos",
            "--support",
            "a.png",
            f"{mask}.png",
            *flag.split(),
            "--out",
            f"out{len(found)}",
        ]
        main([*line, "--presence", "0", "--image-size", "161", "--accelerator", "cpu", "--workers", "0"])
        found[mask, flag] = overlap(np.asarray(Image.open(f"out{len(found)}/b.png")))
    assert found["strokes", "--scribbles"] > 0.8 * found["whole", ""]
    assert found["white", "--scribbles"] > 0.8 * found["whole", ""]
    assert found["white", ""] < 0.5 * found["whole", ""]


def test_segmenter_with_strokes_of_two_classes() -> None:
    strokes = indexed(painted())
    strokes[strokes == 0] = 2
    segmenter = Segmenter(image_size=161, device="cpu", presence=0)
    segmenter.fit([(scene(), strokes)], {1: "disc", 2: "meadow"}, scribbles=True)
    found = segmenter.predict(scene(1)).segments
    assert overlap(found["disc"].mask) > 0.5
    assert overlap(found["meadow"].mask, ~DISC) > 0.8


@pytest.mark.parametrize("scale", [1, 9])
@pytest.mark.parametrize("around", [True, False])
def test_snap_grows_a_stroke_to_the_edge(scale: int, around: bool) -> None:
    strokes = np.kron(indexed(painted(width=3)), np.ones((scale, scale), np.uint8))
    strokes = strokes if around else np.where(strokes == 0, 255, strokes).astype(np.uint8)
    before = strokes.copy()
    found = snap(scene(scale=scale), strokes)
    assert found.dtype == np.uint8
    assert set(np.unique(found)) == {0, 1}
    assert overlap(found, np.kron(DISC, np.ones((scale, scale), bool))) > 0.95
    assert np.array_equal(strokes, before)
    assert (found[strokes == 1] == 1).all()
    assert (found[strokes == 0] == 0).all()


def test_snap_takes_the_parts_that_are_touched() -> None:
    image, second = scene(), np.s_[80:110, 125:155]
    image[second] = (190, 40, 40)
    strokes = indexed(painted(around=False))
    strokes[5, 5:155] = 0
    assert not snap(image, strokes)[second].all()
    strokes[90:95, 135:145] = 1
    assert snap(image, strokes)[second].mean() > 0.9


def test_what_looks_like_the_object_elsewhere_is_not_taught_as_background() -> None:
    image, second = scene(), np.s_[82:108, 127:153]
    image[80:110, 125:155] = (190, 40, 40)
    strokes = np.full(SIZE, 255, np.uint8)
    strokes[58:62, 55:85], strokes[5, 5:155] = 1, 0
    assert (grow(image, strokes)[second] == 255).mean() > 0.9
    assert not snap(image, strokes)[second].any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 300), (2000, 1), (3, 3), (40, 60)])
@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("plain", [True, False])
def test_snap_of_images_without_edges(shape: tuple[int, int], background: bool, plain: bool) -> None:
    image = np.full((*shape, 3), 90, np.uint8)
    if not plain:
        image = np.random.default_rng(0).integers(0, 256, image.shape, dtype=np.uint8)
    strokes = np.full(shape, 255, np.uint8)
    assert not snap(image, strokes).any()
    if background:
        strokes[0, 0] = 0
    strokes[-1, -1] = 1
    found = snap(image, strokes)
    assert found.shape == shape
    assert found[-1, -1] == 1
    assert (strokes[0, 0] != 0) or found[0, 0] == 0
