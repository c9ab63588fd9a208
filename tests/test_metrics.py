import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qgnet.metrics import EpisodeIoU, intersection_and_union

masks = hnp.arrays(np.uint8, (5, 7), elements=st.sampled_from([0, 1, 255]))
predictions = hnp.arrays(np.uint8, (5, 7), elements=st.sampled_from([0, 1]))
episodes = st.lists(st.tuples(predictions, masks, st.sampled_from([3, 8])), min_size=1, max_size=6)


def slow_counts(prediction: np.ndarray, target: np.ndarray) -> tuple[list[int], list[int]]:
    intersection, union = [0, 0], [0, 0]
    for y in range(target.shape[0]):
        for x in range(target.shape[1]):
            if target[y, x] == 255:
                continue
            for label in (0, 1):
                said, true = prediction[y, x] == label, target[y, x] == label
                intersection[label] += said and true
                union[label] += said or true
    return intersection, union


@given(predictions, masks)
def test_counts_equal_a_loop_over_pixels(prediction: np.ndarray, target: np.ndarray) -> None:
    counts = intersection_and_union(torch.from_numpy(prediction), torch.from_numpy(target))
    assert tuple(c.tolist() for c in counts) == slow_counts(prediction, target)


@settings(deadline=None)
@given(episodes)
def test_score_equals_sums_over_episodes_then_division(episodes: list) -> None:
    metric = EpisodeIoU([3, 8])
    sums = {c: ([0, 0], [0, 0]) for c in (3, 8)}
    for prediction, target, class_id in episodes:
        metric.update(torch.from_numpy(prediction), torch.from_numpy(target), class_id)
        for total, part in zip(sums[class_id], slow_counts(prediction, target), strict=True):
            total[0] += part[0]
            total[1] += part[1]
    score = metric.compute()
    ious = [i[1] / u[1] for i, u in sums.values() if u[1]]
    if ious:
        assert score.miou == pytest.approx(np.mean(ious))
    totals = [[sum(s[k][label] for s in sums.values()) for label in (0, 1)] for k in (0, 1)]
    if all(totals[1]):
        assert score.fb_iou == pytest.approx(np.mean([i / u for i, u in zip(*totals, strict=True)]))


def test_it_is_not_the_mean_over_images() -> None:
    metric = EpisodeIoU([1])
    large, small = torch.ones(10, 10), torch.zeros(10, 10)
    small[0, 0] = 1
    metric.update(large, large, 1)
    metric.update(torch.zeros(10, 10), small, 1)
    assert metric.compute().miou == pytest.approx(100 / 101)


def test_class_without_episode_is_left_out_and_foreign_class_refused() -> None:
    metric = EpisodeIoU([4, 5])
    metric.update(torch.ones(2, 2), torch.ones(2, 2), 4)
    score = metric.compute()
    assert score.miou == 1
    assert math.isnan(score.class_iou[1])
    with pytest.raises(ValueError, match="not in"):
        metric.update(torch.ones(2, 2), torch.ones(2, 2), 6)


def test_a_single_class_is_scored_as_one_of_many() -> None:
    metric = EpisodeIoU([7])
    metric.update(torch.ones(2, 2), torch.tensor([[1, 1], [0, 255]]), 7)
    assert metric.compute().class_iou == [pytest.approx(2 / 3)]
