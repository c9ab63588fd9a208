"""The resolution that the supports ask for."""

import numpy as np
import pytest

import qgnet
from qgnet.common.errors import InputError
from qgnet.inference.resolution import choose_sides, coarse_weights, object_size

STRIDE = 16


def mask_of(size: tuple[int, int], *boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    for top, left, height, width in boxes:
        mask[top : top + height, left : left + width] = 1
    return mask


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (mask_of((300, 400), (10, 10, 250, 300)), [321]),
        (mask_of((300, 400), (10, 10, 110, 120)), [321, 481]),
        (mask_of((300, 400), (10, 10, 40, 40)), [321, 641]),
        (mask_of((300, 400), (10, 10, 3, 3)), [321, 641]),
        (mask_of((120, 160), (10, 10, 3, 3)), [321]),  # nothing more is to be seen in twice its size
        (mask_of((200, 250), (10, 10, 3, 3)), [321, 481]),
    ],
    ids=["large", "middle", "small", "tiny", "tiny image", "small image"],
)
def test_the_side_goes_by_the_smallest_object(mask: np.ndarray, expected: list[int]) -> None:
    assert choose_sides([mask], 321, STRIDE) == expected
    assert choose_sides([mask_of((300, 400), (0, 0, 290, 390)), mask], 321, STRIDE)[0] == 321


def test_the_smallest_support_counts() -> None:
    large, small = mask_of((300, 400), (0, 0, 290, 390)), mask_of((300, 400), (10, 10, 40, 40))
    assert choose_sides([large, small, large], 321, STRIDE) == [321, 641]


def test_a_trained_network_keeps_its_side() -> None:
    assert choose_sides([mask_of((300, 400), (10, 10, 4, 4))], 473, None) == [473]


def test_specks_and_holes_do_not_count() -> None:
    mask = mask_of((300, 400), (10, 10, 100, 100))
    specks = mask.copy()
    specks[200::10, 200::10] = 1
    assert object_size(specks) == object_size(mask) == 100


def test_of_many_objects_the_typical_one_counts() -> None:
    coins = mask_of((300, 400), *[(10 + 60 * i, 10, 20 + i, 20 + i) for i in range(4)])
    assert 20 <= object_size(coins) <= 23


def test_the_coarse_scale_comes_first_where_it_sees_the_object() -> None:
    large, small = mask_of((300, 400), (10, 10, 120, 120)), mask_of((300, 400), (10, 10, 40, 40))
    assert coarse_weights([large], [321, 481], STRIDE) == [0.5, 0.0]
    assert coarse_weights([small], [321, 641], STRIDE) == [0.0, 0.5]
    assert coarse_weights([small], [641], STRIDE) == [1.0]


def test_a_given_size_is_kept() -> None:
    image = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    mask = mask_of((300, 400), (10, 10, 40, 40))
    settings = {"encoder": "resnet18", "encoder_weights": "random", "high_stage": 3}
    assert qgnet.Segmenter(image_size=97, **settings).fit([(image, mask)]).sides == [97]
    assert qgnet.Segmenter(tile=True, **settings).fit([(image, mask)]).sides == [321]
    with pytest.raises(InputError, match="refine is 'cut'; expected one of auto, walk, sam2, none"):
        qgnet.Segmenter(refine="cut", **settings)
