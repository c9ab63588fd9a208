import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_data import write_folder

from datamodules import (
    Coco20iDataModule,
    Episode,
    FolderDataModule,
    Fss1000DataModule,
    Pascal5iDataModule,
    SyntheticDataModule,
)
from datamodules.base import IndexSampler
from datamodules.episodes.image_cache import ImageCache
from datamodules.episodes.transforms import Letterbox, TrainAugmentation, centred_matrix, letterbox_size
from datamodules.episodic import EpisodeDataModule
from datamodules.files import read_index_mask
from datamodules.files.sources import binary_mask
from qgnet.common.errors import InputError

Make = Callable[..., EpisodeDataModule]
SMALL = {"image_size": 65, "min_class_area": 50, "episodes": 10, "num_workers": 0}


EPISODIC = [Pascal5iDataModule, Coco20iDataModule, Fss1000DataModule, FolderDataModule, SyntheticDataModule]
FOUR_FOLDS = {Pascal5iDataModule, Coco20iDataModule, SyntheticDataModule}


@pytest.fixture(params=EPISODIC)
def make(request: pytest.FixtureRequest, data: dict[str, Path]) -> Make:
    """Every episodic DataModule, on small data."""
    kind = request.param
    own = {FolderDataModule: {"novel": ["cup"]}, SyntheticDataModule: {"scenes": 800}}.get(kind, {})
    if kind.__name__ in data:
        own["root"] = str(data[kind.__name__])

    def build(**settings: Any) -> EpisodeDataModule:
        if settings.get("fold", 0) > 0 and kind not in FOUR_FOLDS:
            pytest.skip(f"{kind.__name__} has one fold")
        return kind(**(own | SMALL | settings))

    return build


def flatten(batches: list[Episode]) -> list[tuple]:
    """Batches → comparable single episodes."""
    rows = []
    for b in batches:
        for i in range(len(b.class_id)):
            pixels = [t[i].numpy().tobytes() for t in b[:5]]
            original = b.original_mask[i].numpy().tobytes() if b.original_mask else b""
            rows.append((*pixels, b.query_name[i], b.support_names[i], original, b.original_size[i]))
    return rows


@pytest.mark.parametrize("split", ["train", "test"])
def test_same_episodes_for_any_batch_size_and_workers(make: Make, split: str) -> None:
    seen = []
    for batch_size, workers in [(1, 0), (2, 2), (5, 0)]:
        data = make(batch_size=batch_size, num_workers=workers, train_episodes=10, shots=2)
        data.setup("fit")
        loader = data.train_dataloader() if split == "train" else data.test_dataloader()
        seen.append(flatten(list(loader)))
    assert len(seen[0]) == 10
    assert seen[0] == seen[1] == seen[2]


def test_another_seed_gives_other_episodes_and_another_epoch_too(make: Make) -> None:
    def first_epochs(seed: int) -> list[list[tuple]]:
        data = make(seed=seed, batch_size=2, train_episodes=6)
        data.setup("fit")
        loader = data.train_dataloader()
        epochs = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            epochs.append(flatten(list(loader)))
        return epochs

    one, other = first_epochs(1), first_epochs(2)
    assert one == first_epochs(1)
    assert one[0] != one[1]
    assert one[0] != other[0]


@pytest.mark.parametrize("fold", range(4))
def test_no_novel_label_reaches_training(make: Make, fold: int) -> None:
    data = make(fold=fold, shots=2, train_episodes=30)
    data.setup("fit")
    train, test = data.data["train"], data.data["val"]
    assert not set(data.novel_classes) & set(data.base_classes)
    assert set(data.novel_classes) | set(data.base_classes) <= set(data.class_names)
    for i in range(30):
        drawn, episode = train.draw(i), train[i]
        assert drawn.class_id in data.base_classes
        for mask, name in [
            (episode.query_mask, episode.query_name[0]),
            *zip(episode.support_masks, episode.support_names[0], strict=True),
        ]:
            assert set(mask.unique().tolist()) <= {0, 1, 255}
            if len(data.folds) > 1:  # other images for training and test
                assert "train" in name
    for i in range(10):
        assert test.draw(i).class_id in data.novel_classes


@pytest.mark.parametrize("fold", range(4))
def test_training_foreground_is_nowhere_a_novel_class(voc: Path, fold: int) -> None:
    """On the label image itself: under the mask of a training episode lies its base class and nothing else."""
    data = Pascal5iDataModule(str(voc), fold=fold, **SMALL)
    data.setup("fit")
    train = data.data["train"]
    train.transform = lambda image, mask, seed: (image, mask)
    for i in range(20):
        class_id, query, supports, *_ = train.draw(i)
        for image in (query, *supports):
            label = train.source.labels(image)
            assert set(label[binary_mask(label, class_id) == 1]) == {class_id}


def test_supports_are_other_images_of_the_class_without_repetition(make: Make) -> None:
    data = make(shots=3, episodes=40)
    data.setup("test")
    dataset = data.data["val"]
    for i in range(40):
        class_id, query, supports, *_ = dataset.draw(i)
        assert len({query, *supports}) == 4
        assert all(image in dataset.images_of[class_id] for image in (query, *supports))


def test_the_test_walks_the_list_and_training_each_image_once_per_walk(make: Make) -> None:
    data = make()
    data.setup("fit")
    test, train = data.data["val"], data.data["train"]
    n = len(test.queries)
    assert [test.draw(i).query for i in range(n + 3)] == [*test.queries, *test.queries[:3]]
    n = len(train.queries)
    walks = [[train.draw(i).query for i in range(w * n, (w + 1) * n)] for w in (0, 1)]
    assert sorted(walks[0]) == sorted(walks[1]) == train.queries
    assert walks[0] != walks[1]


def test_batch_has_the_documented_shapes_and_dtypes(voc: Path) -> None:
    data = Pascal5iDataModule(str(voc), **(SMALL | {"shots": 2, "batch_size": 3}))
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    assert batch.query_image.shape == (3, 3, 65, 65)
    assert batch.query_mask.shape == (3, 65, 65)
    assert batch.support_images.shape == (3, 2, 3, 65, 65)
    assert batch.support_masks.shape == (3, 2, 65, 65)
    assert {t.dtype for t in batch[:4]} == {torch.uint8}
    assert batch.class_id.dtype == torch.int64
    for mask, size, name in zip(batch.original_mask, batch.original_size, batch.query_name, strict=True):
        assert (
            tuple(mask.shape) == size == data.data["val"].source.labels(data.data["val"].source.names.index(name)).shape
        )
    data.setup("fit")
    assert next(iter(data.train_dataloader())).original_mask == []


def test_min_class_area_counts_pixels_of_the_raw_mask(voc: Path) -> None:
    areas = {}
    for line in (voc / "ImageSets/Segmentation/val.txt").read_text().split():
        label = read_index_mask(voc / "SegmentationClassAug" / f"{line}.png")
        areas[line] = {int(c): int((label == c).sum()) for c in np.unique(label)}
    data = Pascal5iDataModule(str(voc), **(SMALL | {"min_class_area": 980}))
    data.setup("test")
    dataset = data.data["val"]
    expected = {n for n, a in areas.items() if any(a.get(c, 0) >= 980 for c in data.novel_classes)}
    assert {dataset.source.names[i] for i in dataset.queries} == expected
    assert 0 < len(expected) < len(areas)


@pytest.mark.parametrize(("total", "ranks"), list(itertools.product([1, 5, 8], [1, 2, 3])))
def test_evaluation_gives_each_episode_to_one_rank_once(total: int, ranks: int) -> None:
    samplers = [IndexSampler(range(total), rank, ranks, None) for rank in range(ranks)]
    assert sorted(itertools.chain(*samplers)) == list(range(total))
    assert [len(s) for s in samplers] == [len(list(s)) for s in samplers]


def test_training_ranks_share_the_batches_of_one_process() -> None:
    alone = IndexSampler(range(11), 0, 1, batch_size=4)
    pair = [IndexSampler(range(11), rank, 2, batch_size=2) for rank in (0, 1)]
    for epoch in (0, 1):
        for sampler in (alone, *pair):
            sampler.set_epoch(epoch)
        whole, halves = list(alone), [list(s) for s in pair]
        assert len(whole) == 8
        assert whole[0] == 8 * epoch
        for step in range(2):
            both = [n for half in halves for n in half[2 * step : 2 * step + 2]]
            assert sorted(both) == sorted(whole[4 * step : 4 * step + 4])


def test_fit_and_pad_keeps_the_aspect_and_pads_with_ignore() -> None:
    image, mask = np.full((40, 80, 3), 200, np.uint8), np.ones((40, 80), np.uint8)
    small, label = Letterbox(33)(image, mask, 0)
    height, width = letterbox_size(40, 80, 33)
    assert (height, width) == (16, 33)
    assert small.shape == (33, 33, 3)
    assert (label[:height] == 1).all()
    assert (label[height:] == 255).all()
    assert (small[height:] == 0).all()
    assert (small[:height] == 200).all()


def test_training_augmentation_is_a_function_of_its_seed_and_keeps_the_foreground() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (120, 90, 3), dtype=np.uint8)
    mask = np.zeros((120, 90), np.uint8)
    mask[50:70, 30:50] = 1
    augment = TrainAugmentation(65)
    kept = []
    for seed in range(20):
        out, label = augment(image, mask, seed)
        again = augment(image, mask, seed)
        assert np.array_equal(out, again[0])
        assert np.array_equal(label, again[1])
        assert out.shape == (65, 65, 3)
        assert set(np.unique(label)) <= {0, 1, 255}
        kept.append(np.count_nonzero(label == 1))
    assert min(kept) >= 0.85 * 0.9**2 * 400 * 0.9  # 85 % of the foreground at the smallest scale, less rounding
    assert not np.array_equal(augment(image, mask, 0)[0], augment(image, mask, 1)[0])


def test_training_augmentation_moves_image_and_mask_alike() -> None:
    mask = np.zeros((100, 140), np.uint8)
    mask[30:70, 40:95] = 1
    image = np.repeat(255 * mask[..., None], 3, axis=2)
    augment = TrainAugmentation(97, scale=(0.7, 1.3))
    for seed in range(30):
        out, label = augment(image, mask, seed)
        seen = label != 255
        assert seen.any()
        assert (label == 1).sum() > 300
        different = ((out[..., 0] > 127) != (label == 1)) & seen
        assert different.sum() < 0.02 * seen.sum()


def test_the_matrix_scales_and_turns_about_the_centre() -> None:
    matrix = centred_matrix((11, 21), (31, 41), 1.5, 90)
    assert np.allclose(matrix @ [10, 5, 1], [20, 15])  # centre to centre
    right = matrix @ [12, 5, 1] - matrix @ [10, 5, 1]
    assert np.allclose(right, [0, -3])  # a quarter turn counter-clockwise, y pointing down
    up = matrix @ [10, 3, 1] - matrix @ [10, 5, 1]
    assert np.allclose(up, [-3, 0])


def test_the_training_augmentation_takes_both_ways_and_flips() -> None:
    image = np.zeros((65, 65, 3), np.uint8)
    image[:, :20] = 255
    seen = {"upright": 0, "turned": 0, "left": 0, "right": 0}
    for seed in range(40):
        out, _ = TrainAugmentation(65, scale=(1, 1))(image, np.ones((65, 65), np.uint8), seed)
        columns = out[8:-8, :, 0].astype(int)  # rows that a blur or the rotation's corners do not touch
        seen["turned" if np.ptp(columns, axis=0).max() > 200 else "upright"] += 1
        seen["left" if columns[:, 5].mean() > columns[:, -6].mean() else "right"] += 1
    assert min(seen.values()) >= 10


def test_decoded_images_are_kept_while_there_is_room_and_change_nothing() -> None:
    cache = ImageCache(max_bytes=100)
    reads: list[int] = []

    def read(size: int) -> Callable[[], np.ndarray]:
        return lambda: (reads.append(size), np.full(size, size, np.uint8))[1]

    for _ in range(2):
        for image, size in ((0, 60), (1, 60), (2, 40)):
            assert cache.get((image, 0), read(size)).tolist() == [size] * size
    assert reads == [60, 60, 40, 60]  # the second found no room


def test_an_episode_drawn_again_from_kept_images_is_the_same(voc: Path) -> None:
    data = Pascal5iDataModule(str(voc), **SMALL)
    data.setup("fit")
    episodes = data.data["train"]
    first = [episodes[i] for i in range(10)]
    assert episodes.cache.cached
    for one, again in zip(first, [episodes[i] for i in range(10)], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one[:4], again[:4], strict=True))


def test_too_few_images_for_the_shots(voc: Path) -> None:
    data = Pascal5iDataModule(str(voc), **(SMALL | {"shots": 4}))
    with pytest.raises(InputError, match=r"4 shot\(s\) needs 5 images .* too few of aeroplane \(4\)"):
        data.setup("test")


def test_a_class_with_too_few_images_is_left_out_with_a_word(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "folder", binary=True)
    for path in sorted((root / "masks/cup").iterdir())[3:]:
        path.unlink()
    data = FolderDataModule(str(root), **(SMALL | {"shots": 3}))
    with pytest.warns(UserWarning, match=r"left out: .* 3 shot\(s\) needs 4 images .* too few of cup \(3\)"):
        data.setup("test")
    asked = {data.class_names[data.data["val"].draw(i).class_id] for i in range(60)}
    assert asked == {"apple", "boot", "drum"}
