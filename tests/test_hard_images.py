"""Masks with edges where there is little to go by: images of every kind, objects that fill them, or have no edge."""

import csv
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from test_segment import MACHINE, MODEL

import qgnet
from qgnet.commands import main

SIZE = (60, 80)
RED, GREEN = (190, 50, 40), (50, 140, 60)


def uneven(size: tuple[int, int], colour: tuple[int, int, int]) -> np.ndarray:
    """(H, W, 3) float of one colour with soft spots."""
    spots = np.random.default_rng(0).normal(0, 14, (size[0] // 4 + 1, size[1] // 4 + 1, 3)).astype(np.float32)
    return (np.array(colour) + cv2.resize(spots, size[::-1], interpolation=cv2.INTER_CUBIC)).clip(0, 255)


def painted(share: np.ndarray) -> np.ndarray:
    """An image of something red on green; the share (H, W) in [0, 1] is that of red."""
    return (share[..., None] * uneven(share.shape, RED) + (1 - share[..., None]) * uneven(share.shape, GREEN)).astype(
        np.uint8
    )


def disc(size: tuple[int, int], centre: tuple[float, float], radius: float, fall: float = 0) -> tuple[np.ndarray, ...]:
    """An image of a disc, which may fade out over so many pixels, and its mask."""
    y, x = np.mgrid[: size[0], : size[1]]
    far = np.hypot(y - centre[0], x - centre[1]) - radius
    share = 1 / (1 + np.exp(far / fall)) if fall else (far < 0).astype(float)
    return painted(share), far < 0


def filling(size: tuple[int, int], border: int) -> tuple[np.ndarray, ...]:
    """An image of something that leaves a border free, and its mask."""
    mask = np.zeros(size, bool)
    mask[border : size[0] - border, border : size[1] - border] = True
    return painted(mask.astype(float)), mask


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


def found(supports: list[tuple[np.ndarray, ...]], queries: list[tuple[np.ndarray, ...]], refine: str) -> list[float]:
    """IoUs, by the packaged encoder."""
    segmenter = qgnet.Segmenter(refine=refine, presence=0).fit([(image, mask) for image, mask in supports])
    return [overlap(segmenter.predict(image).best.mask == 1, mask) for image, mask in queries]


def test_supports_of_wildly_different_sizes() -> None:
    supports = [disc((30, 40), (15, 20), 8), disc((1200, 1600), (600, 700), 330)]
    queries = [disc((300, 400), (140, 220), 70), disc((30, 40), (12, 20), 9), disc((900, 1200), (400, 500), 210)]
    assert min(found(supports, queries, "auto")) > 0.95


def test_an_object_that_fills_its_image() -> None:
    """It is found where it fills others, and no worse for its edges being looked for."""
    queries = [filling((300, 400), border) for border in (1, 8, 20)]
    refined, coarse = (found([filling((300, 400), 8)], queries, refine) for refine in ("auto", "none"))
    assert refined[0] > 0.98
    assert refined[1] > 0.93
    assert all(one >= other for one, other in zip(refined, coarse, strict=True))


def test_an_object_without_an_edge() -> None:
    queries = [disc((300, 400), (150, 180), 80, fall=15)]
    refined, coarse = (found([disc((300, 400), (140, 220), 70)], queries, refine)[0] for refine in ("walk", "none"))
    assert refined > coarse
    assert refined > 0.85


def images() -> dict[str, Image.Image]:
    """Name → image of every kind that a file may have."""
    pixels = disc(SIZE, (30, 40), 15)[0]
    colour = Image.fromarray(pixels)
    grey = np.empty(SIZE, np.uint8)
    cv2.normalize(np.asarray(colour.convert("L")), grey, 0, 255, cv2.NORM_MINMAX)  # as 16 bits are stretched
    clear = np.dstack([pixels, np.where(np.arange(SIZE[1]) < 40, 0, 255)[None].repeat(SIZE[0], 0).astype(np.uint8)])
    return {
        "colour": colour,
        "grey": Image.fromarray(grey),
        "grey of three": Image.fromarray(grey).convert("RGB"),
        "grey of 16 bits": Image.fromarray(grey.astype(np.uint16) * 257),
        "opaque": colour.convert("RGBA"),
        "half transparent": Image.fromarray(clear),
        "transparent": Image.new("RGBA", SIZE[::-1]),
        "one colour": Image.new("RGB", SIZE[::-1], GREEN),
        "black of 16 bits": Image.fromarray(np.zeros(SIZE, np.uint16)),
        "one row": Image.fromarray(pixels[30:31]),
        "one column": Image.fromarray(pixels[:, 40:41]),
        "one pixel": colour.resize((1, 1)),
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``images/`` of every kind; for each an object (``object NAME.png``) and strokes (``strokes NAME.png``)."""
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    for name, image in images().items():
        image.save(f"images/{name}.png")
        middle = tuple(slice(side // 4, max(side // 4 + 1, side // 2)) for side in image.size[::-1])
        for kind, canvas, drawn in (("object", 0, 255), ("strokes", 128, 255)):
            mask = np.full(image.size[::-1], canvas, np.uint8)
            mask[:, -1:] = mask[-1:] = 0
            mask[middle] = drawn
            Image.fromarray(mask).save(f"{kind} {name}.png")
    return tmp_path


def segment(support: str, kind: str, *arguments: str) -> dict[str, dict[str, str]]:
    """Rows of ``segments.csv``, by name of the image."""
    given = ["--support", f"images/{support}.png", f"{kind} {support}.png", "--presence", "0"]
    main(["segment", "images", *given, "--out", "out", *MACHINE, *MODEL, *arguments])
    with open("out/segments.csv", newline="") as file:
        return {Path(row["image"]).stem: row for row in csv.DictReader(file)}


def written(name: str) -> np.ndarray:
    return np.asarray(Image.open(f"out/{name}.png"))


@pytest.mark.parametrize("kind", ["object", "strokes"])
@pytest.mark.parametrize("support", [name for name in images() if name != "one pixel"])
def test_every_kind_of_image_teaches_and_is_segmented(folder: Path, support: str, kind: str) -> None:
    scribbles = ["--scribbles"] if kind == "strokes" else []
    rows = segment(support, kind, "--refine", "walk", "--instances", "--format", "index", "coco", *scribbles)
    assert rows.keys() == images().keys()
    for name, image in images().items():
        mask = written(name)
        assert mask.shape == image.size[::-1]
        assert set(np.unique(mask)) <= {0, 1}
        assert int(rows[name]["area"]) == mask.sum()
        assert (int(rows[name]["objects"]) > 0) == mask.any()
    assert np.array_equal(written("colour"), written("opaque"))
    assert np.array_equal(written("grey"), written("grey of three"))
    assert np.array_equal(written("grey"), written("grey of 16 bits"))


@pytest.mark.parametrize(("kind", "message"), [("object", "marks everything"), ("strokes", "is all white")])
def test_a_mask_of_nothing_but_the_object(folder: Path, kind: str, message: str, capsys: pytest.CaptureFixture) -> None:
    Image.new("L", SIZE[::-1], 255).save(f"{kind} colour.png")
    with pytest.raises(SystemExit):
        segment("colour", kind, *(["--scribbles"] if kind == "strokes" else []))
    assert message in capsys.readouterr().err


def test_a_refiner_whose_library_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SystemExit):
        segment("colour", "object", "--refine", "sam2")
    assert "pip install 'qgnet-lightning[sam]'" in capsys.readouterr().err
    assert not Path("out").exists()
