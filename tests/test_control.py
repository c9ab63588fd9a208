"""Does the prediction follow the support? Episodes that ask for an absent class, from drawing them to the report."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command
from fake_data import write_folder, write_voc
from PIL import Image

from datamodules import FolderDataModule, Pascal5iDataModule
from datamodules.episodes.dataset import EpisodeDataset
from datamodules.episodes.transforms import Letterbox, Squash
from qgnet.commands import main as qgnet
from qgnet.common.errors import InputError
from qgnet.metrics import SupportControl

SMALL = {"min_class_area": 50, "image_size": 65, "num_workers": 0, "episodes": 40, "batch_size": 3}


def episodes(root: Path, stage: str, **settings: float) -> EpisodeDataset:
    data = Pascal5iDataModule(str(root), **(SMALL | settings))
    data.setup(stage)
    return data.data["train" if stage == "fit" else "val"]


def shows(data: EpisodeDataset, image: int, class_id: int) -> bool:
    return bool((data.source.labels(image) == class_id).any())


def test_a_control_is_the_same_query_under_supports_of_an_absent_class(voc: Path) -> None:
    data = episodes(voc, "test", negative=1.0, shots=2)
    found = 0
    for i in range(40):
        control, own = data.control(i), data[i]
        if control is None:  # the query shows all classes of the fold that others show
            continue
        found += 1
        assert torch.equal(control.query_image, own.query_image)
        assert (own.present.item(), control.present.item()) == (True, False)
        assert not (control.original_mask[0] == 1).any()
        class_id, query = int(control.class_id), data.draw(i).query
        assert not shows(data, query, class_id)
        numbers = [data.source.names.index(name) for name in control.support_names[0]]
        assert len(set(numbers)) == 2
        assert all(shows(data, image, class_id) for image in numbers)
        assert (control.support_masks == 1).flatten(1).any(dim=1).all()
    assert found > 30


def test_a_share_of_the_episodes_has_a_control_and_none_is_replaced(voc: Path) -> None:
    plain, some = episodes(voc, "test"), episodes(voc, "test", negative=0.5)
    assert [plain.draw(i) for i in range(40)] == [some.draw(i) for i in range(40)]
    assert 10 <= sum(some.control(i) is not None for i in range(40)) <= 30
    assert all(plain.control(i) is None for i in range(40))
    batch = some.__getitems__(range(40))
    absent = [i for i, episode in enumerate(batch) if not episode.present]
    assert absent
    assert [int(episode.control_of) for episode in batch] == [i - 1 if i in absent else -1 for i in range(len(batch))]
    assert all(batch[i].query_name == batch[i - 1].query_name for i in absent)


def test_negative_episodes_take_the_place_of_others_in_training(voc: Path) -> None:
    data = episodes(voc, "fit", negative=0.5)
    absent = [i for i in range(100) if not data.draw(i).present]
    assert 30 <= len(absent) <= 70
    for i in absent[:10]:
        episode, draw = data[i], data.draw(i)
        assert not shows(data, draw.query, draw.class_id)
        assert not (episode.query_mask == 1).any()
        assert (episode.support_masks == 1).any()
    assert [e.class_id for e in data.__getitems__([0, 1, 2])] == [data[i].class_id for i in range(3)]


def test_inverted_episodes_ask_for_all_but_the_object(voc: Path) -> None:
    plain, inverted = episodes(voc, "fit"), episodes(voc, "fit", inverted=1.0)
    for data in (plain, inverted):
        data.transform = data.resize  # type: ignore[assignment]  # not augmented: the same pixels
    for i in range(5):
        one, other = plain[i], inverted[i]
        for a, b in ((one.query_mask, other.query_mask), (one.support_masks, other.support_masks)):
            assert torch.equal(b, torch.where(a == 255, a, 1 - a))
    assert not any(episodes(voc, "test", inverted=1.0).draw(i).inverted for i in range(5))


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
@pytest.mark.parametrize("name", ["negative", "inverted"])
def test_a_share_out_of_range_is_refused(name: str, share: float) -> None:
    with pytest.raises(InputError, match=rf"data.{name} is {share}; expected 0 … 1"):
        Pascal5iDataModule(**{name: share})


def test_where_every_image_shows_every_class_there_is_no_absent_one(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "folder", binary=False)
    for path in (root / "masks").iterdir():
        Image.fromarray(np.repeat(np.arange(5, dtype=np.uint8), 12)[:, None].repeat(80, axis=1)).save(path)
    data = FolderDataModule(str(root), **SMALL, negative=0.5)
    with pytest.raises(InputError, match="every image shows all of the classes apple, boot, cup, drum"):
        data.setup("test")


@pytest.mark.parametrize("fit", [Letterbox(65), Squash(65)], ids=["pad", "squash"])
def test_an_object_of_one_pixel_in_a_large_photograph_is_kept(fit: Letterbox | Squash) -> None:
    mask = np.zeros((900, 1200), np.uint8)
    mask[501, 703] = 1
    _, resized = fit(np.zeros((900, 1200, 3), np.uint8), mask, 0)
    assert np.count_nonzero(resized == 1) == 1


def test_a_support_that_its_crop_has_lost_is_drawn_again(voc: Path) -> None:
    data = episodes(voc, "fit")
    calls = []

    def lose(image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        calls.append(seed)
        return image[:65, :65], np.zeros((65, 65), np.uint8)

    data.transform = lose
    picture, mask = data.support_pair(
        data.queries[0], data.draw(0)._replace(class_id=data.classes_in[data.queries[0]][0]), 7
    )
    assert len(set(calls)) == len(calls) > 1
    assert picture.shape == (65, 65, 3)
    assert (mask == 1).any()


def test_the_metric_is_that_of_plain_loops() -> None:
    rng = np.random.default_rng(0)
    metric, both, either, right, wrong, pixels, empty = SupportControl(), 0, 0, 0, 0, 0, 0
    assert metric.compute() is None
    for k in range(6):
        one, other = rng.integers(0, 2, (2, 5, 7))
        other *= k > 1
        target = rng.choice([0, 1, 255], (5, 7))
        metric.update(torch.from_numpy(one), torch.from_numpy(other), torch.from_numpy(target))
        for a, b, t in zip(one.flat, other.flat, target.flat, strict=True):
            if t != 255:
                both, either = both + (a and b), either + (a or b)
                right, wrong, pixels = right + a, wrong + b, pixels + 1
        empty += not other[target != 255].any()
    score = metric.compute()
    assert score is not None
    assert tuple(score) == pytest.approx((both / either, wrong / pixels, wrong / right, empty / 6))


def test_a_test_reports_the_control_and_scores_the_same(command: Command, capsys: pytest.CaptureFixture) -> None:
    whole = ["--trainer.limit_test_batches=1.0", "--ckpt_path=runs/x/checkpoints/last.ckpt"]
    command("fit", "demo/qgnet.yaml", "--run=runs/x", "--data.negative=0.5")
    command("test", "demo/qgnet.yaml", *whole, "--run=runs/plain", "--data.negative=0")
    command("test", "demo/qgnet.yaml", *whole, "--run=runs/control", "--data.negative=1")
    plain, control = (json.loads(Path(f"runs/{run}/results.json").read_text()) for run in ("plain", "control"))
    assert plain["scores"] == control["scores"]
    assert plain["control"] is None
    assert set(control["control"]) == {"support_overlap", "absent_pixels", "absent_to_present", "absent_empty"}
    with open("runs/control/metrics.csv") as file:
        logged = list(csv.DictReader(file))[-1]
    assert float(logged["test/absent_empty"]) == pytest.approx(control["control"]["absent_empty"])
    assert Path("runs/control/two_supports.png").exists()
    assert not Path("runs/plain/two_supports.png").exists()
    capsys.readouterr()
    qgnet(["report", "runs/control"])
    assert "overlap" in capsys.readouterr().out


def test_predict_writes_no_mask_of_a_control(command: Command) -> None:
    command("fit", "demo/qgnet.yaml", "--run=runs/x")
    command(
        "predict", "demo/qgnet.yaml", "--ckpt_path=runs/x/checkpoints/last.ckpt", "--run=runs/p", "--data.negative=1"
    )
    assert len(list(Path("runs/p/predictions").glob("*.png"))) == 4


def test_a_manifest_must_show_its_class_and_not_its_own_query(tmp_path: Path) -> None:
    data = episodes(write_voc(tmp_path / "voc"), "test")
    draw = data.named(0)
    with pytest.raises(InputError, match="as its own support"):
        data.use_manifest([draw._replace(supports=(draw.query,))])
    other = next(n for i, n in enumerate(data.source.names) if not shows(data, i, draw.class_id))
    with pytest.raises(InputError, match=f"which {other} does not show"):
        data.use_manifest([draw._replace(query=other)])
