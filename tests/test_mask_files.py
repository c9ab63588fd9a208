"""One reader of masks: the object of every kind of file, or a refusal."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from test_files import OBJECT, SIZE, box, photograph, rgb, with_orientation

from datamodules.files import read_index_mask, read_mask
from qgnet.common.errors import InputError


def palette_image(indices: np.ndarray, colours: list[int], **info: int) -> Image.Image:
    image = Image.fromarray(indices)
    image.putpalette(colours)
    image.info.update(info)
    return image


VOC_COLOURS = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]


SOFT = cv2.GaussianBlur(cv2.resize(box(255), (520, 360), interpolation=cv2.INTER_NEAREST), (0, 0), 2)


MASKS = {
    "white.png": Image.fromarray(box(255)),
    "one.png": Image.fromarray(box(1)),
    "dark.png": Image.fromarray(box(77)),
    "bits.png": Image.fromarray(OBJECT),
    "deep.png": Image.fromarray(box(65535, np.uint16)),
    "deep_one.png": Image.fromarray(box(1, np.uint16)),
    "deep.tif": Image.fromarray(box(300, np.int32)),
    "float.tif": Image.fromarray(box(1, np.float32)),
    "red.png": Image.fromarray(rgb((255, 0, 0))),
    "green.png": Image.fromarray(rgb((0, 200, 0))),
    "blue.tif": Image.fromarray(rgb((0, 0, 90))),
    "pink.webp": Image.fromarray(rgb((250, 100, 200))),
    "white_rgb.png": Image.fromarray(rgb((255, 255, 255))),
    "voc.png": palette_image(box(3), VOC_COLOURS),
    "any_palette.png": palette_image(box(1), [90, 0, 90, 250, 250, 0]),
    "swapped_palette.png": palette_image(1 - box(1), [255, 255, 255, 0, 0, 0]),
    "black_palette.png": palette_image(box(1), [0] * 6),
    "palette.gif": palette_image(box(1), [0, 0, 0, 255, 255, 255]),
    "quantised.gif": Image.fromarray(rgb((255, 255, 255))).quantize(2),
    "alpha.png": Image.fromarray(rgb((0, 0, 0, 255), (0, 0, 0, 0))),
    "alpha_on_white.png": Image.fromarray(rgb((255, 255, 255, 255), (255, 255, 255, 0))),
    "alpha.webp": Image.fromarray(rgb((0, 0, 0, 255), (0, 0, 0, 0))),
    "grey_alpha.png": Image.fromarray(np.dstack([np.zeros(SIZE, np.uint8), box(255)])),
    "opaque.png": Image.fromarray(rgb((255, 255, 255, 255), (0, 0, 0, 255))),
    "cut_out.png": Image.fromarray(rgb((0, 0, 0, 255), (255, 255, 255, 0))),
    "cut_out_red.png": Image.fromarray(rgb((200, 0, 0, 255), (255, 255, 255, 0))),
    "photographer.jpg": Image.fromarray(box(255)),
    "red.jpg": Image.fromarray(rgb((255, 0, 0))),
    "mask.bmp": Image.fromarray(box(255)),
    "mask.jp2": Image.fromarray(box(255)),
    "mask.avif": Image.fromarray(rgb((255, 255, 255))),
    "mask.pgm": Image.fromarray(box(255)),
    "mask.pbm": Image.fromarray(OBJECT),
}


@pytest.mark.parametrize("name", MASKS)
def test_the_object_of_every_kind_of_mask_is_found(tmp_path: Path, name: str) -> None:
    MASKS[name].save(tmp_path / name, **({"subsampling": 0, "quality": 90} if name.endswith("jpg") else {}))
    found = read_mask(tmp_path / name)
    assert found.dtype == bool
    assert found.shape == SIZE
    assert (found ^ OBJECT).mean() <= (0.03 if Path(name).suffix in (".jpg", ".webp", ".avif", ".jp2") else 0)


def test_soft_edges_are_halved(tmp_path: Path) -> None:
    Image.fromarray(SOFT).save(tmp_path / "blurred.png")
    assert np.array_equal(read_mask(tmp_path / "blurred.png"), SOFT >= 128)
    small = np.asarray(Image.fromarray(box(255)).resize((104, 72), Image.Resampling.BILINEAR))
    Image.fromarray(small).save(tmp_path / "resized.png")
    assert 2 < len(np.unique(small)) <= 8
    assert np.array_equal(read_mask(tmp_path / "resized.png"), small >= 128)


def test_a_mask_is_turned_with_its_picture(tmp_path: Path) -> None:
    for read, value in ((read_mask, 255), (read_index_mask, 7)):
        expected = with_orientation(tmp_path / "a.png", 6, Image.fromarray(box(value)))
        assert np.array_equal(read(tmp_path / "a.png"), expected > 0 if read is read_mask else expected)


def test_a_mask_of_one_value_is_all_object_or_none(tmp_path: Path) -> None:
    for value in (0, 1, 255):
        Image.fromarray(np.full(SIZE, value, np.uint8)).save(tmp_path / "a.png")
        assert (read_mask(tmp_path / "a.png") == bool(value)).all()


def several(*values: int) -> np.ndarray:
    """Broad stripes."""
    return np.repeat(np.array(values, np.uint8), 12)[None].repeat(36, axis=0)


@pytest.mark.parametrize(
    ("mask", "named"),
    [
        (several(0, 100, 200), r"0 \(33\.3%\), 100 \(33\.3%\), 200 \(33\.3%\)"),
        (several(0, 1, 255), r"0 \(33\.3%\), 1 \(33\.3%\), 255"),
        (several(100, 200), r"100 \(50\.0%\), 200"),
        (several(0, 1, 2, 3), r"0 .*, 1 .*, 2 .*, 3 "),
        (photograph()[..., 0], r"values in all"),
        (photograph(), r"values in all"),
        (np.stack([several(0, 255, 0), several(0, 0, 255), several(0, 0, 0)], 2), r"\(0, 0, 0\).*\(0, 255, 0\)"),
        (rgb((255, 0, 0), (255, 255, 255)), r"\(255, 0, 0\) .*\(255, 255, 255\)"),
    ],
)
def test_a_mask_that_could_mean_several_things_is_refused(tmp_path: Path, mask: np.ndarray, named: str) -> None:
    Image.fromarray(mask).save(tmp_path / "odd.png")
    with pytest.raises(InputError, match=rf"odd\.png holds .*{named}.*expected one object"):
        read_mask(tmp_path / "odd.png")
    grey = mask if mask.ndim == 2 else cv2.cvtColor(mask, cv2.COLOR_RGB2GRAY)
    assert np.array_equal(read_mask(tmp_path / "odd.png", halve=True), grey >= 128)


def packed_png(values: np.ndarray, bits: int) -> bytes:
    """A grey PNG of 1, 2 or 4 bits a pixel."""
    rows = np.pad(values, ((0, 0), (0, -values.shape[1] % (8 // bits))))
    each = np.unpackbits(rows[..., None].astype(np.uint8), axis=-1)[..., -bits:].reshape(len(rows), -1)
    raw = b"".join(b"\0" + row.tobytes() for row in np.packbits(each, axis=1))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", values.shape[1], len(rows), bits, 0, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_class_numbers_of_few_bits_are_not_spread(tmp_path: Path, bits: int) -> None:
    numbers = np.arange(40 * 31).reshape(40, 31).astype(np.uint8) % 2**bits
    (tmp_path / "a.png").write_bytes(packed_png(numbers, bits))
    assert np.array_equal(read_index_mask(tmp_path / "a.png"), numbers)


NUMBERS = several(0, 1, 2, 3)


INDEX_MASKS = {
    "grey.png": Image.fromarray(NUMBERS),
    "palette.png": palette_image(NUMBERS, VOC_COLOURS),
    "palette.gif": palette_image(NUMBERS, VOC_COLOURS),
    "palette.bmp": palette_image(NUMBERS, VOC_COLOURS),
    "palette.tif": palette_image(NUMBERS, VOC_COLOURS),
    "deep.png": Image.fromarray(NUMBERS.astype(np.uint16)),
    "deep.tif": Image.fromarray(NUMBERS.astype(np.int32)),
    "float.tif": Image.fromarray(NUMBERS.astype(np.float32)),
    "grey.tif": Image.fromarray(NUMBERS),
    "rgb.png": Image.fromarray(np.repeat(NUMBERS[..., None], 3, axis=2)),
    "rgba.png": Image.fromarray(np.repeat(NUMBERS[..., None], 3, axis=2)).convert("RGBA"),
    "grey_alpha.png": Image.fromarray(NUMBERS).convert("LA"),
}


@pytest.mark.parametrize("name", INDEX_MASKS)
def test_class_numbers_are_read_from_every_depth(tmp_path: Path, name: str) -> None:
    INDEX_MASKS[name].save(tmp_path / name)
    found = read_index_mask(tmp_path / name)
    assert found.dtype == np.uint8
    assert np.array_equal(found, NUMBERS)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (box(300, np.uint16), r"holds .*300 .*expected class numbers, whole and from 0 to 255"),
        (box(-1, np.int32), r"holds -1 "),
        (np.where(OBJECT, 0.5, 0).astype(np.float32), r"holds .*0\.5 "),
        (np.where(OBJECT, np.nan, 0).astype(np.float32), r"holds .*nan"),
        (rgb((128, 0, 0)), r"is in colour .*\(128, 0, 0\)"),
    ],
)
def test_an_index_mask_that_holds_no_class_numbers_is_refused(tmp_path: Path, mask: np.ndarray, message: str) -> None:
    name = "odd.tif" if mask.dtype in (np.float32, np.int32) else "odd.png"
    Image.fromarray(mask).save(tmp_path / name)
    with pytest.raises(InputError, match=message):
        read_index_mask(tmp_path / name)
