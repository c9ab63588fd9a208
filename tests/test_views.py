from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import CONFIGS
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.segmentation import slic
from torchvision.transforms import RandomResizedCrop

from datamodules import SyntheticViewsDataModule, UnlabeledDataModule
from datamodules.unlabeled import ImageFolder
from datamodules.views.dataset import Augmentation, ViewDataset, square
from datamodules.views.regions import PatchRule, Window, draw_patches, segment
from qgnet.common.errors import InputError

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


WHOLE = (slice(0, 80), slice(0, 120))


def two_halves() -> np.ndarray:
    """The region map, half as large, of an image of 80 x 120 px: region 0 on its left, 1 on its right."""
    regions = np.zeros((40, 60), np.uint8)
    regions[:, 30:] = 1
    return regions


def inside(window: Window, area: Window) -> bool:
    return all(a.start <= w.start < w.stop <= a.stop for w, a in zip(window, area, strict=True))


def area(window: Window) -> int:
    return (window[0].stop - window[0].start) * (window[1].stop - window[1].start)


def test_patches_are_boxes_round_different_regions() -> None:
    for seed in range(10):
        patches = draw_patches(
            two_halves(), 2, (80, 120), [WHOLE] * 2, PatchRule("two_regions"), np.random.default_rng(seed)
        )
        for patch in patches:
            rows, columns = patch.window
            assert not patch.fallback
            assert (rows.start, rows.stop) == (0, 80)
            assert (columns.start == 0 and 60 <= columns.stop <= 69) or (columns.stop == 120 and columns.start >= 51)
        assert patches[0].window != patches[1].window


def test_without_margin_a_patch_is_its_regions_bounding_box() -> None:
    regions = np.zeros((40, 60), np.uint8)
    regions[10:20, 30:50] = 1
    regions[25:, 5:9] = 2
    found = set()
    for seed in range(20):
        for patch in draw_patches(regions, 3, (80, 120), [WHOLE], PatchRule(margin=0), np.random.default_rng(seed)):
            found.add((patch.window[0].start, patch.window[0].stop, patch.window[1].start, patch.window[1].stop))
    assert found == {(0, 80, 0, 120), (20, 40, 60, 100), (50, 80, 10, 18)}


def test_one_region_gives_both_patches_with_other_margins() -> None:
    rule = PatchRule("one_region")
    for seed in range(10):
        patches = draw_patches(two_halves(), 2, (80, 120), [WHOLE] * 2, rule, np.random.default_rng(seed))
        sides = {patch.window[1].start == 0 for patch in patches}
        assert len(sides) == 1
        assert patches[0].window != patches[1].window


def test_each_views_patch_lies_in_what_the_view_shows() -> None:
    views = [(slice(10, 50), slice(3, 100)), (slice(31, 79), slice(50, 118))]
    rule = PatchRule("each_view")
    for seed in range(30):
        patches = draw_patches(two_halves(), 2, (80, 120), views, rule, np.random.default_rng(seed))
        assert not any(patch.fallback for patch in patches)
        assert all(inside(patch.window, view) for patch, view in zip(patches, views, strict=True))
        left = [patch.window[1].start < 45 for patch in patches]
        assert left.count(True) <= 1  # of two different regions


def test_regions_that_are_too_small_are_not_cut_out() -> None:
    regions = np.zeros((40, 60), np.uint8)
    regions[:4, :6] = 1  # 1 % of the image
    for least, expected in ((0.009, {0, 1}), (0.011, {0})):
        rule, chosen = PatchRule(min_area=least, margin=0), set()
        for seed in range(20):
            [patch] = draw_patches(regions, 2, (80, 120), [WHOLE], rule, np.random.default_rng(seed))
            chosen.add(int(area(patch.window) < 1000))
        assert chosen == expected


@given(
    st.tuples(st.integers(1, 50), st.integers(1, 50)),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["two_regions", "one_region", "each_view"]),
    st.booleans(),
)
def test_patches_never_leave_what_they_are_drawn_from(
    size: tuple[int, int], shape: tuple[int, int], seed: int, choice: str, mapped: bool
) -> None:
    rng = np.random.default_rng(seed)
    regions = rng.integers(4, size=shape, dtype=np.uint8) if mapped else None
    views = [Augmentation().view(size, rng) for _ in range(2)]
    whole = (slice(0, size[0]), slice(0, size[1]))
    for view, patch in zip(views, draw_patches(regions, 4, size, views, PatchRule(choice), rng), strict=True):
        assert inside(view, whole)
        assert inside(patch.window, view if choice == "each_view" else whole)


def test_without_a_usable_region_a_random_crop_stands_in_and_is_counted() -> None:
    for choice, expected in (("two_regions", (40, 60)), ("each_view", (20, 30))):
        views = [(slice(0, 40), slice(60, 120))] * 2
        regions = np.zeros((40, 60), np.uint8)
        patches = draw_patches(regions, 1, (80, 120), views, PatchRule(choice), np.random.default_rng(0))
        assert all(p.fallback for p in patches)
        assert all(tuple(side.stop - side.start for side in p.window) == expected for p in patches)


def test_views_are_drawn_as_torchvision_draws_them() -> None:
    """Same distribution of areas and aspects; torchvision draws from its own generator, so only in the mean."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    size, image = (100, 160), torch.zeros(3, 100, 160)
    ours = [Augmentation().view(size, rng) for _ in range(3000)]
    theirs = [RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(3000)]
    found = np.array([[w[0].start, w[1].start, w[0].stop - w[0].start, w[1].stop - w[1].start] for w in ours])
    assert np.allclose(found.mean(axis=0), np.mean(theirs, axis=0), rtol=0.05)
    assert np.allclose(found.std(axis=0), np.std(theirs, axis=0), rtol=0.05)
    narrow = [Augmentation().view((5, 500), rng) for _ in range(5)]  # no draw fits: the middle
    top, left, height, width = RandomResizedCrop.get_params(torch.zeros(3, 5, 500), [0.2, 1.0], [3 / 4, 4 / 3])
    assert narrow == [(slice(top, top + height), slice(left, left + width))] * 5


@pytest.mark.parametrize(("height", "width", "side"), [(375, 500, 224), (900, 1600, 96), (40, 60, 96)])
def test_views_are_resized_as_pillow_resizes(height: int, width: int, side: int) -> None:
    noise = np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)
    reference = np.asarray(Image.fromarray(noise).resize((side, side), Image.Resampling.BILINEAR)).astype(float)
    found = square(noise, side).astype(float)
    assert 0.7 < found.std() / reference.std() < 1.5
    assert np.corrcoef(found.ravel(), reference.ravel())[0, 1] > 0.8


OFF = {"jitter_probability": 0.0, "grey_probability": 0.0, "blur_probability": 0.0, "flip_probability": 0.0}
WHOLE_VIEW = {"view_area": (1.0, 1.0), "view_aspect": (1.0, 1.0)}
STILL = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def first_views(images: Path, **values: object) -> tuple[ViewDataset, np.ndarray]:
    """The first global view of the first 8 images, (8, 48, 48, 3), everything off but what ``values`` turn on."""
    data = UnlabeledDataModule(str(images), **SMALL, augmentation=Augmentation(**(OFF | WHOLE_VIEW | values)))
    data.setup("fit")
    views = data.data["train"]
    return views, np.stack([views[i].global_views[0].permute(1, 2, 0).numpy() for i in range(8)])


def test_with_everything_off_a_view_is_the_resized_crop(images: Path) -> None:
    views, found = first_views(images)
    for i, view in enumerate(found):
        drawn = views.drawn(i)
        assert np.array_equal(view, square(drawn.image[drawn.views[0]], 48))


def test_each_value_of_the_augmentation_does_what_it_says(images: Path) -> None:
    plain = first_views(images)[1].astype(int)
    colour = plain.max(-1) - plain.min(-1)
    assert colour.mean() > 5
    flipped = first_views(images, flip_probability=1.0)[1]
    assert np.array_equal(flipped, plain[:, :, ::-1])
    grey = first_views(images, grey_probability=1.0)[1].astype(int)
    assert (grey.max(-1) - grey.min(-1)).max() == 0
    roughness = [
        np.abs(np.diff(first_views(images, blur_probability=1.0, blur_sigma=(s, s))[1].astype(int), axis=1)).mean()
        for s in (0.5, 2.0)
    ]
    assert np.abs(np.diff(plain, axis=1)).mean() > roughness[0] > roughness[1]
    still = first_views(images, jitter_probability=1.0, **STILL)[1]
    assert np.abs(still - plain).max() <= 1
    for name in STILL:
        changed = first_views(images, jitter_probability=1.0, **(STILL | {name: 0.5}))[1]
        assert np.abs(changed - plain).mean() > 0.5, name
    small = first_views(images, view_area=(0.2, 0.2))[0].drawn(0)
    assert area(small.views[0]) == pytest.approx(0.2 * small.image[..., 0].size, rel=0.1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hue": 0.7}, r"augmentation\.hue is 0\.7; expected 0 … 0\.5"),
        ({"blur_probability": -1}, "expected 0 … 1"),
        ({"view_area": (0.5, 0.2)}, "the smaller number first"),
        ({"view_area": (0, 1)}, "view_area"),
        ({"blur_sigma": (0, 1)}, "blur_sigma"),
    ],
)
def test_augmentations_out_of_range_are_refused(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Augmentation(**values)


def test_the_values_written_out_for_imagenet_are_the_defaults() -> None:
    settings = yaml.safe_load((CONFIGS / "pretrain_imagenet.yaml").read_text())["data"]["init_args"]
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in settings["augmentation"].items()}
    assert len(values) == 10
    assert Augmentation(**values) == Augmentation()
    assert PatchRule(**settings["patches"]) == PatchRule()


@pytest.mark.parametrize("values", [{"min_area": 1}, {"min_area": -0.1}, {"margin": -1}, {"margin": float("nan")}])
def test_patch_rules_out_of_range_are_refused(values: dict) -> None:
    with pytest.raises(InputError, match=r"data\.patches\.\w+ is .*; expected 0 …"):
        PatchRule(**values)


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
        ({"root": "nowhere"}, "is not a folder"),
        ({"list_file": "nowhere.txt"}, "does not exist"),
        ({"batch_size": 500}, "a batch takes 500"),
        ({"regions": "quickshift"}, "expected one of slic, felzenszwalb"),
        ({"region_count": 0}, "expected 1 … 255"),
    ],
)
def test_mistakes_are_named(images: Path, settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        UnlabeledDataModule(**({"root": str(images)} | SMALL | settings)).setup("fit")


def test_list_with_an_unknown_image(images: Path, tmp_path: Path) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text("000\nmissing_one\n")
    data = UnlabeledDataModule(str(images), list_file=str(listing), **SMALL)
    with pytest.raises(InputError, match="missing_one"):
        data.setup("fit")


def lists(tmp_path: Path, text: str) -> ImageFolder:
    for name in ("a/IMG 1.png", "b/IMG 1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 40)).save(tmp_path / name)
    (tmp_path / "list.txt").write_text(text)
    return ImageFolder(tmp_path, tmp_path / "list.txt")


def test_a_list_names_images_by_path_or_name(tmp_path: Path) -> None:
    assert lists(tmp_path, "b/IMG 1\n2.png\n\na/IMG 1.png\n").names == ["b/IMG 1.png", "b/2.png", "a/IMG 1.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("IMG 1", r"which may be .*/IMG 1\.png or .*/IMG 1\.png"), ("2\nb/2.png", r"names 1 image\(s\) more than once")],
)
def test_a_list_that_is_unclear_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        lists(tmp_path, text)


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no image"):
        UnlabeledDataModule(str(tmp_path), **SMALL).setup("fit")


def test_random_patches_are_of_a_regions_size_anywhere_and_no_fallback() -> None:
    size, whole, rule = (120, 80), (slice(0, 120), slice(0, 80)), PatchRule()
    windows = [
        patch for i in range(50) for patch in draw_patches(None, 16, size, [whole] * 2, rule, np.random.default_rng(i))
    ]
    assert not any(patch.fallback for patch in windows)
    heights = [patch.window[0].stop - patch.window[0].start for patch in windows]
    assert 30 <= min(heights) < max(heights) <= 39  # a quarter of the side, up to 30 % more
    assert max(patch.window[0].stop for patch in windows) <= 120
    assert len({patch.window[1].start for patch in windows}) > 20


def test_a_grid_is_of_equal_rectangles() -> None:
    labels = segment(np.zeros((96, 64, 3), np.uint8), "grid", 24)
    assert np.bincount(labels.ravel()).tolist() == [256] * 24
