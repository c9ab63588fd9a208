from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from datamodules.files.masks import read_index_mask
from datamodules.files.png import decode_plain_png, write_plain_png
from datamodules.files.sources import class_areas
from qgnet.common.errors import InputError

MASKS = arrays(
    np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.sampled_from([0, 1, 7, 20, 255])
)


def palette_png(folder: Path, mask: np.ndarray) -> bytes:
    write_plain_png(folder / "written.png", mask)
    return (folder / "written.png").read_bytes()


@given(MASKS)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_palette_mask_is_read_as_pillow_reads_it(tmp_path: Path, mask: np.ndarray) -> None:
    path = tmp_path / "mask.png"
    write_plain_png(path, mask)
    plain = decode_plain_png(path.read_bytes())
    assert plain is not None
    with Image.open(path) as file:
        assert np.array_equal(plain, np.asarray(file))
    assert np.array_equal(read_index_mask(path), mask)


@given(MASKS, st.sampled_from(["L", "P", "1"]))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_other_kind_is_left_to_pillow(tmp_path: Path, mask: np.ndarray, mode: str) -> None:
    path = tmp_path / "mask.png"
    labels = {"L": mask, "P": mask % 3, "1": mask > 0}[mode]
    image = Image.fromarray(labels)
    if mode == "P":
        image.putpalette([0] * 9)  # three colours: two bits a pixel
    image.save(path)
    assert np.array_equal(read_index_mask(path), labels)


@given(MASKS)
@settings(max_examples=50)
def test_class_areas_are_those_of_a_slow_count(mask: np.ndarray) -> None:
    assert class_areas(mask) == {c: int((mask == c).sum()) for c in (1, 7, 20) if (mask == c).any()}


@pytest.mark.parametrize("length", [0, 10, 30, 200, 1500])
def test_a_truncated_mask_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(palette_png(tmp_path, np.random.default_rng(0).integers(0, 21, (50, 60), dtype=np.uint8))[:length])
    with pytest.raises(InputError, match=r"mask.png cannot be decoded"):
        read_index_mask(path)


@pytest.mark.parametrize("plain", [True, False])
def test_a_flipped_bit_is_not_read_as_a_mask(tmp_path: Path, plain: bool) -> None:
    mask = np.random.default_rng(0).integers(0, 21, (50, 60), dtype=np.uint8)
    path = tmp_path / "mask.png"
    if plain:
        write_plain_png(path, mask)
    else:
        cv2.imwrite(str(path), mask)
    data = path.read_bytes()
    start = data.index(b"IDAT") + 40
    for position in range(start, start + 200, 7):
        path.write_bytes(data[:position] + bytes([data[position] ^ 16]) + data[position + 1 :])
        with pytest.raises(InputError, match=r"mask\.png cannot be decoded"):
            read_index_mask(path)
