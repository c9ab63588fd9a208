import cv2
import numpy as np
import pytest

from datamodules.datasets.synthetic import CLASSES, FOLDS, HUES, SHAPES, SURFACES, SyntheticScenes


def scenes(split: str = "train", seed: int = 1, classes: list[int] | None = None) -> SyntheticScenes:
    return SyntheticScenes(classes or list(CLASSES), 97, 40, seed, split)


def test_forty_classes_in_four_disjoint_folds_each_with_every_shape() -> None:
    assert sorted(c for fold in FOLDS for c in fold) == sorted(CLASSES) == list(range(1, 41))
    assert len(set(CLASSES.values())) == 40
    for fold in FOLDS:
        assert {CLASSES[c][0] for c in fold} == set(SHAPES)
        assert {CLASSES[c][1] for c in fold} == set(SURFACES)


def test_a_scene_is_a_function_of_seed_split_and_number() -> None:
    one, same = scenes(), scenes()
    assert np.array_equal(one.image(7), same.image(7))
    assert np.array_equal(one.labels(7), same.labels(7))
    for other in (scenes(seed=2), scenes("val"), scenes("unlabeled")):
        assert not np.array_equal(one.image(7), other.image(7))
    assert not np.array_equal(one.image(7), one.image(8))


def test_scenes_show_several_objects_of_different_classes_and_occlusion() -> None:
    source = scenes()
    counts = [len(set(np.unique(source.labels(i)))) - 1 for i in range(40)]
    assert min(counts) >= 1
    assert max(counts) == 4
    assert np.mean(counts) > 2


def test_only_the_given_classes_appear() -> None:
    source = scenes(classes=[3, 9])
    assert {int(v) for i in range(20) for v in np.unique(source.labels(i))} == {0, 3, 9}


@pytest.mark.parametrize("i", range(5))
def test_mask_and_image_agree(i: int) -> None:
    """Objects are painted in their surface's hue, which the mask must point at."""
    source = scenes()
    image, mask = source.image(i), source.labels(i)
    hue = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., 0].astype(int)
    for class_id in set(np.unique(mask)) - {0}:
        inside = cv2.erode((mask == class_id).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        if inside.sum() < 60:
            continue
        expected = HUES[CLASSES[int(class_id)][1]]
        distance = np.abs((hue[inside] - expected + 90) % 180 - 90)
        assert np.median(distance) < 20
