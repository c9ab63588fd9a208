"""Pictures and masks by PIL are what the same in a file is."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qgnet.segmenting.given import class_numbers, picture


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "YCbCr"])
def test_a_picture(tmp_path: Path, mode: str) -> None:
    rng = np.random.default_rng(0)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 60000, (20, 30), dtype=np.uint16))
    elif mode == "F":
        image = Image.fromarray(rng.random((20, 30), dtype=np.float32))
    else:
        image = Image.fromarray(rng.integers(0, 256, (20, 30, 4), dtype=np.uint8), "RGBA").convert(mode)
    path = tmp_path / ("picture.png" if mode == "P" else "picture.tif")  # TIFF drops a palette's transparency
    image.save(path)
    assert np.array_equal(picture(image), picture(path))


def test_what_is_transparent_lies_on_white() -> None:
    image = Image.new("RGBA", (30, 20), (10, 20, 30, 0))
    assert (picture(image) == 255).all()


def test_a_mask_in_the_alpha_channel() -> None:
    alpha = np.zeros((20, 30), np.uint8)
    alpha[5:9, 5:9] = 255
    image = Image.fromarray(np.dstack([np.full((20, 30, 3), 90, np.uint8), alpha]), "RGBA")
    assert np.array_equal(class_numbers(image, [1]), alpha // 255)


def test_turned_as_exif_says(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    assert picture(tmp_path / "turned.png").shape == (30, 20, 3)
    assert np.array_equal(picture(Image.open(tmp_path / "turned.png")), picture(tmp_path / "turned.png"))


def test_class_numbers_of_a_palette() -> None:
    numbers = np.repeat(np.arange(3, dtype=np.uint8), 10)[None].repeat(5, 0)
    image = Image.fromarray(numbers)
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    assert np.array_equal(class_numbers(image, [1, 2]), numbers)
