"""Images and masks by PIL are what the same in a file is; arrays, tensors and lists are what they plainly mean."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from qgnet.common.errors import InputError
from qgnet.inference.supports import as_class_mask, as_image, read_supports

GREY = np.arange(60, dtype=np.uint8).reshape(6, 10)
COLOURED = np.dstack([GREY, GREY + 60, GREY + 120])
DISC = GREY % 10 > 5


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "YCbCr"])
def test_an_image(tmp_path: Path, mode: str) -> None:
    rng = np.random.default_rng(0)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 60000, (20, 30), dtype=np.uint16))
    elif mode == "F":
        image = Image.fromarray(rng.random((20, 30), dtype=np.float32))
    else:
        image = Image.fromarray(rng.integers(0, 256, (20, 30, 4), dtype=np.uint8), "RGBA").convert(mode)
    path = tmp_path / ("image.png" if mode == "P" else "image.tif")  # TIFF drops a palette's transparency
    image.save(path)
    assert np.array_equal(as_image(image), as_image(path))


def test_what_is_transparent_lies_on_white() -> None:
    image = Image.new("RGBA", (30, 20), (10, 20, 30, 0))
    assert (as_image(image) == 255).all()


def test_a_mask_in_the_alpha_channel() -> None:
    alpha = np.zeros((20, 30), np.uint8)
    alpha[5:9, 5:9] = 255
    image = Image.fromarray(np.dstack([np.full((20, 30, 3), 90, np.uint8), alpha]), "RGBA")
    assert np.array_equal(as_class_mask(image, None), alpha // 255)


def test_turned_as_exif_says(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    assert as_image(tmp_path / "turned.png").shape == (30, 20, 3)
    assert np.array_equal(as_image(Image.open(tmp_path / "turned.png")), as_image(tmp_path / "turned.png"))


def test_class_numbers_of_a_palette() -> None:
    numbers = np.repeat(np.arange(3, dtype=np.uint8), 10)[None].repeat(5, 0)
    image = Image.fromarray(numbers)
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    assert np.array_equal(as_class_mask(image, [1, 2]), numbers)


@pytest.mark.parametrize("mode", ["HSV", "La", "RGBa", "I;16N", "LAB", "RGBX", "PA"])
def test_modes_that_no_file_has(mode: str) -> None:
    source = {"La": "LA", "RGBa": "RGBA", "I;16N": "I;16", "PA": "P"}.get(mode, "RGB")
    image = Image.fromarray(COLOURED).convert("L" if source == "I;16" else source)
    image = Image.new(mode, image.size) if mode == "I;16N" else image.convert(mode)
    assert as_image(image).shape == (6, 10, 3)
    assert as_class_mask(Image.new(mode, (10, 6)), None).shape == (6, 10)


def test_an_image_in_hsv_keeps_its_colours() -> None:
    assert np.abs(as_image(Image.fromarray(COLOURED).convert("HSV")).astype(int) - COLOURED).max() <= 4


@pytest.mark.parametrize(
    "given",
    [
        COLOURED.tolist(),
        COLOURED.astype(np.int64),
        torch.from_numpy(COLOURED),
        torch.from_numpy(COLOURED).permute(2, 0, 1),
    ],
)
def test_images_that_plainly_mean_the_same(given: Any) -> None:
    found = as_image(given)
    assert found.dtype == np.uint8
    assert np.array_equal(found, COLOURED)


@pytest.mark.parametrize(
    "given",
    [
        DISC.tolist(),
        DISC.astype(np.float32),
        DISC[:, :, None],
        torch.from_numpy(DISC),
        torch.from_numpy(DISC).float()[None],
        torch.from_numpy(DISC).to(torch.bfloat16),
        (DISC * 255).astype(np.int32),
    ],
)
def test_masks_that_plainly_mean_the_same(given: Any) -> None:
    assert np.array_equal(as_class_mask(given, None), DISC)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "An image is None; expected a file"),
        (7, "of the type int"),
        ({"a": 1}, "of the type dict"),
        (b"a.jpg", "of the type bytes"),
        ([[1, 2], [3]], "differ in length"),
        ([["a", "b"]], "expected a file"),
        (COLOURED / 255, "float64"),
        (COLOURED.astype(int) * 9, "values from 0 to 1611"),
        (COLOURED[:, :, :2], "(6, 10, 2)"),
        (np.zeros((0, 5), np.uint8), "(0, 5)"),
        (torch.zeros(3, 5, 5), "float32"),
        (Image.new("RGB", (0, 4)), "the PIL image cannot be decoded"),
    ],
)
def test_images_that_are_none(given: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        as_image(given)
    assert message in str(error.value)


@pytest.mark.parametrize("given", [None, 3, DISC * 0.5, [[1, np.nan]], [[[0, 1], [1, 0]]] * 2, [], np.zeros((0, 3))])
def test_masks_that_are_none(given: Any) -> None:
    with pytest.raises(InputError, match=r"^A mask .* expected"):
        as_class_mask(given, None)


def test_class_numbers_of_any_size() -> None:
    """300 is no 44 (its lower byte)."""
    mask = np.where(DISC, 300, 0)
    mask[0] = 44
    found = read_supports([(COLOURED, mask)], {300: "disc", 44: "row"})
    assert {name: int((pairs[0][1] == 1).sum()) for name, pairs in found.items()} == {
        "disc": int((mask == 300).sum()),
        "row": 10,
    }


def test_what_is_ignored_is_no_object_where_the_class_has_a_number() -> None:
    ignored = np.where(DISC, 255, 0)
    with pytest.raises(InputError, match="any of 1; 255 means ignored"):
        read_supports([(COLOURED, ignored)], {1: "disc"})
    assert read_supports([(COLOURED, ignored)], None)["object"]


@pytest.mark.parametrize(
    ("supports", "names", "message"),
    [
        ([(COLOURED, DISC)], {0: "background", 1: "a"}, "class number 0 ('background')"),
        ([(COLOURED, DISC)], {1: "a", 255: "b"}, "class number 255"),
        ([(COLOURED, DISC)], {"1": "a"}, "class number '1'"),
        ([(COLOURED, DISC)], {True: "a"}, "class number True"),
        ([(COLOURED, DISC)], {1: ""}, "has the name ''"),
        ([(COLOURED, DISC)], {}, "`names` is {}"),
        ([(COLOURED, DISC)], ["a"], "`names` is ['a']"),
        ({"disc": [(COLOURED, DISC)]}, {1: "a"}, "`names` gives others"),
        ({3: [(COLOURED, DISC)]}, None, "has the name 3"),
        ((COLOURED, DISC), None, "Support 1 is of the type ndarray"),
        ("a.jpg", None, "The supports are of the type str"),
        (None, None, "The supports are None"),
        ([(COLOURED, DISC, DISC)], None, "Support 1 is of the type tuple of 3"),
        ({"disc": None}, None, "The supports are None"),
    ],
)
def test_supports_that_are_none(supports: Any, names: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        read_supports(supports, names)
    assert message in str(error.value)
