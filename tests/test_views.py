from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.segmentation import slic

from datamodules import InputError, SyntheticViewsDataModule, UnlabeledDataModule
from datamodules.region_maps import RegionMaps
from datamodules.regions import draw_patches, segment

SMALL = {"batch_size": 2, "num_workers": 0, "global_size": 48, "local_size": 32, "held_out": 4}


def halves(height: int = 40, width: int = 60) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2] = (250, 30, 30)
    image[:, width // 2 :] = (20, 40, 240)
    return image


@pytest.mark.parametrize("method", ["slic", "felzenszwalb", "grid"])
def test_regions_respect_a_strong_edge(method: str) -> None:
    regions = segment(halves(), method, 8)
    assert regions.shape == (40, 60)
    assert regions.dtype == np.uint8
    assert not set(np.unique(regions[:, :28])) & set(np.unique(regions[:, 32:]))


def test_shrunk_segmentation_agrees_with_full_size_slic() -> None:
    big = np.kron(halves(), np.ones((6, 6, 1), np.uint8))
    ours, full = segment(big, "slic", 8), slic(big, n_segments=8, compactness=10, start_label=0)
    assert ours.shape == (45, 68)
    for labels, scale in ((ours, 68 / 360), (full, 1)):
        assert not set(np.unique(labels[:, : int(170 * scale)])) & set(np.unique(labels[:, int(190 * scale) + 1 :]))


def test_patches_are_boxes_round_different_regions() -> None:
    regions = np.zeros((40, 60), np.uint8)
    regions[:, 30:] = 1
    for seed in range(10):
        first, second = draw_patches(regions, (80, 120), 2, np.random.default_rng(seed))
        for patch in (first, second):
            rows, columns = patch.window
            assert not patch.fallback
            assert (rows.start, rows.stop) == (0, 80)
            assert (columns.start == 0 and 60 <= columns.stop <= 69) or (columns.stop == 120 and columns.start >= 51)
        assert first.window != second.window


def test_without_a_usable_region_a_random_crop_stands_in_and_is_counted() -> None:
    patches = draw_patches(np.zeros((40, 60), np.uint8), (40, 60), 2, np.random.default_rng(0))
    assert all(p.fallback for p in patches)
    assert all(
        (p.window[0].stop - p.window[0].start, p.window[1].stop - p.window[1].start) == (20, 30) for p in patches
    )


def test_views_have_the_documented_shapes_and_follow_the_seed(images: Path) -> None:
    data = UnlabeledDataModule(str(images), **SMALL)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch.global_views.shape == (2, 2, 3, 48, 48)
    assert batch.local_patches.shape == (2, 2, 3, 32, 32)
    assert batch.global_views.dtype == batch.local_patches.dtype == torch.uint8
    assert batch.fallback.dtype == torch.bool
    again = UnlabeledDataModule(str(images), **(SMALL | {"num_workers": 2}))
    again.setup("fit")
    other = next(iter(again.train_dataloader()))
    assert torch.equal(batch.global_views, other.global_views)
    assert torch.equal(batch.local_patches, other.local_patches)
    assert not torch.equal(batch.global_views[:, 0], batch.global_views[:, 1])
    assert batch.name == other.name


def test_held_out_images_are_not_trained_on(images: Path) -> None:
    data = UnlabeledDataModule(str(images), **SMALL)
    data.setup("fit")
    train, val = (set(data.data[split].members) for split in ("train", "val"))
    assert len(val) == 4
    assert len(train) == 8
    assert not train & val


def test_synthetic_views_work_too() -> None:
    data = SyntheticViewsDataModule(scenes=12, scene_size=65, **SMALL)
    data.setup("fit")
    assert next(iter(data.val_dataloader()[0])).global_views.shape == (2, 2, 3, 48, 48)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"root": "nowhere"}, "is no folder"),
        ({"list_file": "nowhere.txt"}, "does not exist"),
        ({"batch_size": 500}, "a batch takes 500"),
        ({"regions": "quickshift"}, "expected one of slic, felzenszwalb"),
        ({"region_count": 0}, "expected 1 … 255"),
    ],
)
def test_mistakes_are_named(images: Path, settings: dict, message: str) -> None:
    data = UnlabeledDataModule(**({"root": str(images)} | SMALL | settings))
    with pytest.raises(InputError, match=message):
        data.setup("fit")


def test_list_with_an_unknown_image(images: Path, tmp_path: Path) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text("000\nmissing_one\n")
    data = UnlabeledDataModule(str(images), list_file=str(listing), **SMALL)
    with pytest.raises(InputError, match="missing_one"):
        data.setup("fit")


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no image"):
        UnlabeledDataModule(str(tmp_path), **SMALL).setup("fit")


def test_random_patches_are_of_a_regions_size_anywhere_and_no_fallback() -> None:
    image = np.zeros((120, 80, 3), np.uint8)
    maps = RegionMaps("random", 16, None)
    windows = [p for i in range(50) for p in maps.patches(image, "x", 2, np.random.default_rng(i))]
    assert not any(patch.fallback for patch in windows)
    heights = [patch.window[0].stop - patch.window[0].start for patch in windows]
    assert 30 <= min(heights) < max(heights) <= 39  # a quarter of the side, up to 30 % more
    assert max(patch.window[0].stop for patch in windows) <= 120
    assert len({patch.window[1].start for patch in windows}) > 20


def test_a_grid_is_of_equal_rectangles() -> None:
    labels = segment(np.zeros((96, 64, 3), np.uint8), "grid", 24)
    assert np.bincount(labels.ravel()).tolist() == [256] * 24
