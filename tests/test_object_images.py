from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fake_data import write_voc
from PIL import Image
from torch import Tensor

from datamodules import SyntheticViewsDataModule, UnlabeledDataModule
from datamodules.views.object_images import collate_object_images
from qgnet.common.errors import InputError
from qgnet.metrics import MapQuality, spread
from qgnet.networks.correspondence import untrained_prior_map

SMALL = {"batch_size": 2, "num_workers": 0, "global_size": 48, "local_size": 32, "held_out": 3, "map_size": 65}


def slow_average_precision(values: Tensor, objects: Tensor) -> float:
    """The mean, over the objects' pixels, of the precision at that pixel's value."""
    known = objects != 255
    scores, truth = values[known].tolist(), (objects[known] == 1).tolist()
    precisions = []
    for score, positive in zip(scores, truth, strict=True):
        if positive:
            chosen = [t for s, t in zip(scores, truth, strict=True) if s >= score]
            precisions.append(sum(chosen) / len(chosen))
    return sum(precisions) / len(precisions)


def test_map_quality_equals_a_slow_reference() -> None:
    generator = torch.Generator().manual_seed(0)
    quality, precisions = MapQuality(), []
    both, either = [0] * 9, [0] * 9
    for _ in range(3):
        values = torch.rand(6, 7, generator=generator)
        objects = torch.randint(0, 2, (6, 7), generator=generator, dtype=torch.uint8)
        objects[0] = 255
        quality.update(values, objects)
        precisions.append(slow_average_precision(values, objects))
        for i in range(9):
            for value, truth in zip(values.flatten().tolist(), objects.flatten().tolist(), strict=True):
                if truth != 255:
                    both[i] += value > 0.1 * (i + 1) and truth == 1
                    either[i] += value > 0.1 * (i + 1) or truth == 1
    score = quality.compute()
    assert score.average_precision == pytest.approx(sum(precisions) / 3, rel=1e-5)
    assert score.iou == pytest.approx(max(b / e for b, e in zip(both, either, strict=True)), rel=1e-9)


def test_photographs_that_tell_nothing_are_left_out() -> None:
    quality = MapQuality()
    for objects in (torch.zeros(4, 4), torch.ones(4, 4), torch.full((4, 4), 255)):
        quality.update(torch.rand(4, 4), objects.to(torch.uint8))
    assert np.isnan(quality.compute().average_precision)


def test_the_untrained_prior_map_is_high_at_what_stands_out() -> None:
    features = torch.randn(2, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    result = untrained_prior_map(features)
    for image, found in zip(features, result, strict=True):
        columns = image.flatten(1).T.tolist()
        norms = [sum(x * x for x in c) ** 0.5 for c in columns]
        similarity = [
            sum(sum(x * y for x, y in zip(a, b, strict=True)) / (m * n) for b, n in zip(columns, norms, strict=True))
            for a, m in zip(columns, norms, strict=True)
        ]
        expected = [(max(similarity) - s) / (max(similarity) - min(similarity)) for s in similarity]
        assert torch.allclose(found.flatten(), torch.tensor(expected), atol=1e-4)
    same = torch.ones(1, 3, 5, 5)
    same[0, 0, 2, 3] = -1
    assert untrained_prior_map(same).flatten().argmax() == 13


def test_spread_is_0_in_one_point_and_1_over_the_sphere() -> None:
    point = torch.nn.functional.normalize(torch.ones(64, 16), dim=1)
    sphere = torch.nn.functional.normalize(torch.randn(4096, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    assert float(spread(point)) == pytest.approx(0, abs=1e-6)
    assert float(spread(sphere)) == pytest.approx(1, abs=0.01)


def test_objects_are_the_union_of_all_classes(tmp_path: Path) -> None:
    voc = write_voc(tmp_path)
    lists = voc / "ImageSets/Segmentation"
    data = UnlabeledDataModule(
        str(voc / "JPEGImages"),
        list_file=str(lists / "train.txt"),
        mask_root=str(voc / "SegmentationClassAug"),
        mask_list=str(lists / "val.txt"),
        **SMALL,
    )
    data.setup("fit")
    names = (lists / "val.txt").read_text().split()
    batch = next(iter(data.val_dataloader()[1]))
    assert batch.image.shape == (2, 3, 65, 65)
    assert [Path(name).stem for name in batch.name] == names[:2]
    for name, objects in zip(names, batch.objects, strict=False):
        labels = np.asarray(Image.open(voc / f"SegmentationClassAug/{name}.png"))
        expected = np.zeros_like(labels)
        for class_id in range(1, 21):
            expected[labels == class_id] = 1
        expected[labels == 255] = 255
        assert {0, 1} <= set(expected.ravel().tolist())
        expected = cv2.resize(expected, (65, 65), interpolation=cv2.INTER_NEAREST)
        assert np.array_equal(objects.numpy(), expected)


def test_without_masks_nothing_is_known(images: Path) -> None:
    data = UnlabeledDataModule(str(images), **SMALL)
    data.setup("fit")
    batch = collate_object_images([data.shown[i] for i in range(len(data.shown))])
    assert len(batch.name) == 3
    assert (batch.objects == 255).all()


def test_scenes_know_their_objects() -> None:
    data = SyntheticViewsDataModule(scenes=12, scene_size=65, **SMALL)
    data.setup("fit")
    assert (data.shown[0].objects == 1).any()


def test_missing_masks_are_named(images: Path, tmp_path: Path) -> None:
    data = UnlabeledDataModule(str(images), mask_root=str(tmp_path), **SMALL)
    with pytest.raises(InputError, match="3 of 3 images have no mask in data"):
        data.setup("fit")
