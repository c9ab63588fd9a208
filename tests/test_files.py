"""Pictures and masks of every kind that the tests write themselves: read as a viewer shows them, or refused by name."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from datamodules.files import find_files, picture_size, read_index_mask, read_mask, read_picture
from datamodules.files.pictures import check_picture
from qgnet.common.errors import InputError

SIZE = (36, 52)


def photograph(size: tuple[int, int] = SIZE) -> np.ndarray:
    """Smooth, so that lossy formats keep it, and unlike its mirror image."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    planes = np.stack([rows * 200 / size[0], columns * 220 / size[1], 255 - (rows + columns) * 2], axis=-1)
    return np.clip(planes, 0, 255).astype(np.uint8)


def box(value: int = 1, dtype: type = np.uint8) -> np.ndarray:
    mask = np.zeros(SIZE, dtype)
    mask[6:21, 9:40] = value
    return mask


OBJECT = box() == 1


def rgb(colour: tuple[int, ...], background: tuple[int, ...] = (0, 0, 0)) -> np.ndarray:
    return np.where(OBJECT[..., None], np.uint8(colour), np.uint8(background))


def close(found: np.ndarray, expected: np.ndarray, by: float = 8) -> bool:
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    return bool(np.abs(found.astype(int) - expected.astype(int)).mean() < by)


def with_orientation(path: Path, orientation: int, image: Image.Image) -> np.ndarray:
    """Write it, and return what a viewer shows."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
    upright = Image.Image.copy(image)
    upright.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(upright))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp", "avif"])
def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path, ending: str, orientation: int) -> None:
    path = tmp_path / f"a.{ending}"
    expected = with_orientation(path, orientation, Image.fromarray(photograph()))
    assert close(read_picture(path), expected)
    assert picture_size(path) == check_picture(path) == expected.shape[:2]
    assert read_picture(path).flags.c_contiguous


def test_exif_after_the_pixels_of_a_png_counts(tmp_path: Path) -> None:
    """As ImageMagick writes it."""
    path = tmp_path / "a.png"
    expected = with_orientation(path, 6, Image.fromarray(photograph()))
    data = path.read_bytes()
    at = data.index(b"eXIf") - 4
    size = 12 + struct.unpack(">I", data[at : at + 4])[0]
    path.write_bytes(data[:at] + data[at + size : -12] + data[at : at + size] + data[-12:])
    assert picture_size(path) == expected.shape[:2]
    assert np.array_equal(read_picture(path), expected)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_is_no_turn(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(photograph()).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert close(read_picture(path), photograph())
    assert picture_size(path) == SIZE


GREY = np.repeat(photograph().mean(axis=2).astype(np.uint8)[..., None], 3, axis=2)


def cut_out() -> Image.Image:
    """The object opaque, with red under what is transparent."""
    return Image.fromarray(
        np.dstack([np.where(OBJECT[..., None], photograph(), [255, 0, 0]), OBJECT * 255]).astype("u1")
    )


ON_WHITE = np.where(OBJECT[..., None], photograph(), 255).astype(np.uint8)
PICTURES = {
    "grey.png": (Image.fromarray(GREY[..., 0]), GREY),
    "grey.jpg": (Image.fromarray(GREY[..., 0]), GREY),
    "grey.tif": (Image.fromarray(GREY[..., 0]), GREY),
    "grey_alpha.png": (Image.fromarray(GREY[..., 0]).convert("LA"), GREY),
    "palette.png": (Image.fromarray(photograph()).quantize(200), photograph()),
    "palette.gif": (Image.fromarray(photograph()).quantize(200), photograph()),
    "black_and_white.png": (Image.fromarray(OBJECT), rgb((255, 255, 255))),
    "fax.tif": (Image.fromarray(OBJECT), rgb((255, 255, 255))),
    "cmyk.jpg": (Image.fromarray(photograph()).convert("CMYK"), photograph()),
    "cmyk.tif": (Image.fromarray(photograph()).convert("CMYK"), photograph()),
    "progressive.jpg": (Image.fromarray(photograph()), photograph()),
    "cut_out.png": (cut_out(), ON_WHITE),
    "cut_out.webp": (cut_out(), ON_WHITE),
    "cut_out.tif": (cut_out(), ON_WHITE),
    "opaque.png": (Image.fromarray(photograph()).convert("RGBA"), photograph()),
    "a.bmp": (Image.fromarray(photograph()), photograph()),
    "a.jp2": (Image.fromarray(photograph()), photograph()),
    "a.ppm": (Image.fromarray(photograph()), photograph()),
    "lzw.tif": (Image.fromarray(photograph()), photograph()),
}
OPTIONS = {"progressive.jpg": {"progressive": True}, "lzw.tif": {"compression": "tiff_lzw"}}


@pytest.mark.parametrize("name", PICTURES)
def test_every_kind_of_picture_becomes_rgb_of_eight_bits(tmp_path: Path, name: str) -> None:
    image, expected = PICTURES[name]
    image.save(tmp_path / name, **OPTIONS.get(name, {}))
    assert close(read_picture(tmp_path / name), expected)
    assert picture_size(tmp_path / name) == SIZE


def test_a_picture_with_another_formats_ending_is_read(tmp_path: Path) -> None:
    Image.fromarray(photograph()).save(tmp_path / "a.jpg", format="PNG")
    assert np.array_equal(read_picture(tmp_path / "a.jpg"), photograph())


@pytest.mark.parametrize("ending", ["png", "tif", "jp2"])
@pytest.mark.parametrize("highest", [1023, 4095, 65535])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_deep_pictures_are_stretched_to_their_range(tmp_path: Path, ending: str, highest: int, channels: int) -> None:
    spread = photograph().astype(float) / photograph().max()
    deep = (spread * highest).astype(np.uint16)
    if channels == 1:
        deep = deep[..., 0]
    elif channels == 4:
        deep = np.dstack([deep, np.full(SIZE, 65535, np.uint16)])
    stored = {1: deep, 3: deep[..., ::-1], 4: deep[..., [2, 1, 0, 3]] if channels == 4 else None}[channels]
    if (ending, channels) == ("jp2", 4):
        pytest.skip("OpenCV writes no such file")
    assert cv2.imwrite(str(tmp_path / f"a.{ending}"), stored)
    expected = (spread[..., :1].repeat(3, 2) / spread[..., 0].max() if channels == 1 else spread) * 255
    assert close(read_picture(tmp_path / f"a.{ending}"), expected.astype(np.uint8), by=2)


def test_a_float_picture_is_stretched_and_nan_refused(tmp_path: Path) -> None:
    values = photograph()[..., 1].astype(np.float32) / 100
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert close(read_picture(tmp_path / "a.tif")[..., 0], photograph()[..., 1], by=40)
    values[3, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif holds values from nan"):
        read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp", "gif", "bmp", "avif", "jp2", "ppm"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.9])
def test_half_a_file_is_refused_whenever_it_is_read(tmp_path: Path, ending: str, kept: float) -> None:
    path = tmp_path / f"half.{ending}"
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    for read in (read_picture, check_picture, read_mask, read_index_mask):
        with pytest.raises(InputError, match=rf"half\.{ending} cannot be decoded"):
            read(path)


def test_a_thumbnails_end_is_not_taken_for_the_pictures(tmp_path: Path) -> None:
    path, small = tmp_path / "a.jpg", io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(noise[:16, :16]).save(small, "JPEG")
    Image.fromarray(noise).save(path, exif=b"Exif\0\0" + b"MM\0*\0\0\0\x08\0\0\0\0\0\0" + small.getvalue())
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(InputError, match="truncated"):
        read_picture(path)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    for name, content in (
        ("text.jpg", b"<html>404</html>"),
        ("empty.png", b""),
        ("heic.jpg", b"\0\0\0\x18ftypheic" * 9),
    ):
        (tmp_path / name).write_bytes(content)
        for read in (read_picture, picture_size, check_picture, read_mask, read_index_mask):
            with pytest.raises(InputError, match=rf"{name} cannot be decoded"):
                read(tmp_path / name)
    for read in (read_picture, picture_size, check_picture, read_mask, read_index_mask):
        with pytest.raises(InputError, match=r"none\.png does not exist"):
            read(tmp_path / "none.png")
        with pytest.raises(InputError, match="cannot be decoded"):
            read(tmp_path)


def bare_png(height: int, width: int) -> bytes:
    """A PNG of one bit a pixel, all 0."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(bytes(height * (width // 8 + 1)), 9)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_huge_pictures_have_a_limit_of_ours_and_no_warning_below_it(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    for side, larger in ((10_000, False), (17_000, True), (30_000, True)):
        path.write_bytes(bare_png(side, side))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if larger:
                with pytest.raises(InputError, match=r"huge\.png is too large \(.*at most 268,435,456 pixels"):
                    read_picture(path)
            else:
                assert picture_size(path) == (side, side)
                assert not read_mask(path).any()


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


def test_files_are_found_by_one_rule(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("a.JPG", "b.tif", "in/c.png", "in/deep/d.Jpeg", "e.heic", "note.txt", "README"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name in ("._a.jpg", ".DS_Store", "Thumbs.db", "__MACOSX/x.jpg", "@eaDir/a.jpg", ".ipynb_checkpoints/a.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (tmp_path / "else").mkdir()
    (tmp_path / "else/f.png").touch()
    (root / "linked").symlink_to("../else")
    (root / "a_link_to_in").symlink_to("in")
    (root / "in/loop").symlink_to("..")
    (root / "gone.png").symlink_to("nowhere.png")
    found = find_files(root)
    assert found.files == ["a.JPG", "b.tif", "in/c.png", "in/deep/d.Jpeg", "linked/f.png"]
    assert found.left_out["hidden or system file(s)"] == 6
    told = found.told(root)
    assert "1 .heic" in told
    assert "1 broken link(s)" in told
    assert "2 link(s) to a folder that is searched already" in told
    assert find_files(root, deep=False).files == ["a.JPG", "b.tif"]
