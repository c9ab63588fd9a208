"""Pictures and masks of every kind that the tests write themselves: read as a viewer shows them, or refused by name."""

import io
import struct
import time
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from datamodules.files import find_files, image_paths, read_image, read_image_size, read_index_mask, read_mask
from datamodules.files.finding import subfolders
from datamodules.files.image_paths import find_images
from datamodules.files.images import count_pages, first_page, verify_image
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
    assert close(read_image(path), expected)
    assert read_image_size(path) == verify_image(path) == expected.shape[:2]
    assert read_image(path).flags.c_contiguous


def test_exif_after_the_pixels_of_a_png_counts(tmp_path: Path) -> None:
    """As ImageMagick writes it."""
    path = tmp_path / "a.png"
    expected = with_orientation(path, 6, Image.fromarray(photograph()))
    data = path.read_bytes()
    at = data.index(b"eXIf") - 4
    size = 12 + struct.unpack(">I", data[at : at + 4])[0]
    path.write_bytes(data[:at] + data[at + size : -12] + data[at : at + size] + data[-12:])
    assert read_image_size(path) == expected.shape[:2]
    assert np.array_equal(read_image(path), expected)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_is_no_turn(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(photograph()).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert close(read_image(path), photograph())
    assert read_image_size(path) == SIZE


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
    assert close(read_image(tmp_path / name), expected)
    assert read_image_size(tmp_path / name) == SIZE


def test_a_picture_with_another_formats_ending_is_read(tmp_path: Path) -> None:
    Image.fromarray(photograph()).save(tmp_path / "a.jpg", format="PNG")
    assert np.array_equal(read_image(tmp_path / "a.jpg"), photograph())


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
    assert close(read_image(tmp_path / f"a.{ending}"), expected.astype(np.uint8), by=2)


def test_a_float_picture_is_stretched_and_nan_refused(tmp_path: Path) -> None:
    values = photograph()[..., 1].astype(np.float32) / 100
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert close(read_image(tmp_path / "a.tif")[..., 0], photograph()[..., 1], by=40)
    values[3, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif holds values from nan"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp", "gif", "bmp", "avif", "jp2", "ppm"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.9])
def test_half_a_file_is_refused_whenever_it_is_read(tmp_path: Path, ending: str, kept: float) -> None:
    path = tmp_path / f"half.{ending}"
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    for read in (read_image, verify_image, read_mask, read_index_mask):
        with pytest.raises(InputError, match=rf"half\.{ending} cannot be decoded"):
            read(path)


def test_a_thumbnails_end_is_not_taken_for_the_pictures(tmp_path: Path) -> None:
    path, small = tmp_path / "a.jpg", io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(noise[:16, :16]).save(small, "JPEG")
    Image.fromarray(noise).save(path, exif=b"Exif\0\0" + b"MM\0*\0\0\0\x08\0\0\0\0\0\0" + small.getvalue())
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(InputError, match="truncated"):
        read_image(path)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    for name, content in (
        ("text.jpg", b"<html>404</html>"),
        ("empty.png", b""),
        ("heic.jpg", b"\0\0\0\x18ftypheic" * 9),
    ):
        (tmp_path / name).write_bytes(content)
        for read in (read_image, read_image_size, verify_image, read_mask, read_index_mask):
            with pytest.raises(InputError, match=rf"{name} cannot be decoded"):
                read(tmp_path / name)
    for read in (read_image, read_image_size, verify_image, read_mask, read_index_mask):
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
                    read_image(path)
            else:
                assert read_image_size(path) == (side, side)
                assert not read_mask(path).any()


@pytest.mark.parametrize("ending", ["tif", "gif", "webp", "png", "avif"])
def test_pages_that_are_not_read_are_named(tmp_path: Path, ending: str) -> None:
    path, colours = tmp_path / f"a.{ending}", ("red", "green", "blue")
    pages = [Image.new("RGB", (40, 30), colour) for colour in colours]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    assert count_pages(path) == 3
    with pytest.warns(UserWarning, match=rf"{path} has 3 pages or frames: only the first is read\."):
        picture = read_image(path)
    assert np.abs(picture[10, 10].astype(int) - (255, 0, 0)).max() < 9
    pages[0].save(path)
    assert count_pages(path) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(path)


def test_the_page_before_a_broken_one_is_read(tmp_path: Path) -> None:
    """Of deep colours, greys and palettes: counting pages does not disturb what was decoded."""
    for mode in ("RGB", "L", "P", "1"):
        path, page = tmp_path / f"{mode}.tif", Image.radial_gradient("L").convert(mode)
        page.save(path)
        alone = read_image(path)
        page.save(path, save_all=True, append_images=[Image.new(mode, (9, 9)), page])
        assert count_pages(path) == 3
        data = bytearray(path.read_bytes())
        assert np.array_equal(first_page(path, bytes(data))[0], alone)
        first = int.from_bytes(data[4:8], "little")
        link = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")  # where the second page begins
        second = int.from_bytes(data[link : link + 4], "little")
        data[second : second + 60] = b"\xff" * 60
        picture, pages = first_page(path, bytes(data))
        assert np.array_equal(picture, alone)
        assert pages <= 2


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
    for name in ("itself.png", "in/itself"):
        (root / name).symlink_to(Path(name).name)
    found = find_files(root)
    assert found.files == ["a.JPG", "b.tif", "in/c.png", "in/deep/d.Jpeg", "linked/f.png"]
    assert found.left_out["hidden or system file(s)"] == 6
    told = found.left_out_message(root)
    assert "1 .heic" in told
    assert "2 broken link(s)" in told
    assert subfolders(root / "in") == ["deep", "loop"]
    assert "2 link(s) to a folder that is searched already" in told
    assert find_files(root, deep=False).files == ["a.JPG", "b.tif"]


def test_out_may_be_a_link_to_itself(tmp_path: Path) -> None:
    """It is refused where it is made; Path.resolve would end in a traceback before."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").touch()
    (tmp_path / "out").symlink_to("out")
    assert list(find_images([str(tmp_path / "photos")], tmp_path / "out")) == ["a"]


def test_a_photograph_that_is_given_twice_is_one(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert list(find_images([str(tmp_path), str(tmp_path / "a.jpg")], tmp_path.parent / "out")) == ["a"]


def test_equal_stems_take_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """40,000 photographs would take a minute if each were compared with all others."""
    pairs = [(Path(f"{i}.{ending}"), tmp_path / f"{i}.{ending}") for i in range(20_000) for ending in ("jpg", "png")]
    monkeypatch.setattr(image_paths, "_images", lambda *_: pairs)
    begin = time.perf_counter()
    assert list(find_images(["photos"], tmp_path / "out"))[:2] == ["0.jpg", "0.png"]
    assert time.perf_counter() - begin < 10
