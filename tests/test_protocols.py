import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import Command

from datamodules import Coco20i, Coco20iDataModule, Pascal5iDataModule
from datamodules.datasets.protocols import PROTOCOLS, Protocol, default_seed
from datamodules.episodes.manifest import NamedDraw, read_manifest, write_manifest
from qgnet.commands import main as qgnet
from qgnet.common.errors import InputError

SMALL = {"image_size": 65, "min_class_area": 50, "episodes": 12, "num_workers": 0, "batch_size": 2}


def make(voc: Path, stage: str = "fit", **settings: object) -> Pascal5iDataModule:
    data = Pascal5iDataModule(str(voc), **(SMALL | settings))  # type: ignore[arg-type]
    data.setup(stage)
    return data


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_name_stands_for_every_choice_and_each_can_be_replaced(name: str) -> None:
    protocol = Protocol(name)  # type: ignore[arg-type]
    assert None not in vars(protocol.resolved()).values()
    replaced = Protocol(name, resize="squash", seeds=(7,)).resolved()  # type: ignore[arg-type]
    assert replaced.resize == "squash"
    assert default_seed(replaced) == 7
    assert replaced.supports == protocol.resolved().supports


def test_novel_pixels_in_training(voc: Path) -> None:
    def shown(choice: str) -> tuple[list[str], set[int]]:
        train = make(voc, fold=1, protocol=Protocol(novel_in_training=choice), train_episodes=30).data["train"]  # type: ignore[arg-type]
        novel, values = range(6, 11), set()
        train.transform = lambda image, mask, seed: (image, mask)
        for i in range(30):
            draw, episode = train.draw(i), train[i]
            shown = (episode.query_mask, *episode.support_masks)
            for image, mask in zip((draw.query, *draw.supports), map(np.asarray, shown), strict=True):
                labels = train.source.labels(image)  # type: ignore[attr-defined]
                values |= set(mask[np.isin(labels, novel)].tolist())
                assert (mask[labels == 255] == 255).all()
        return [train.source.names[i] for i in train.queries], values

    kept, values = shown("background")
    assert values == {0}
    same, values = shown("ignore")
    assert values == {255}
    assert same == kept
    fewer, values = shown("drop")
    assert values == set()
    assert 0 < len(fewer) < len(kept)


def test_boundary_becomes_background_in_training_only(voc: Path) -> None:
    data = make(voc, protocol=Protocol(boundary_in_training="background"), train_episodes=10)
    train, test = data.data["train"], data.data["val"]
    query = train.draw(0).query
    assert 255 in train.source.labels(query)  # type: ignore[attr-defined]
    train.transform = lambda image, mask, seed: (image, mask)
    assert set(np.unique(train[0].query_mask)) == {0, 1}
    assert any(255 in episode.original_mask[0] for episode in (test[i] for i in range(4)))


def test_ignored_novel_pixels_stay_ignored_where_the_boundary_becomes_background(voc: Path) -> None:
    protocol = Protocol(boundary_in_training="background", novel_in_training="ignore")
    train = make(voc, fold=1, protocol=protocol, train_episodes=10).data["train"]
    train.transform = lambda image, mask, seed: (image, mask)
    values = set()
    for i in range(10):
        labels = train.source.labels(train.draw(i).query)  # type: ignore[attr-defined]
        mask = np.asarray(train[i].query_mask)
        values |= set(mask[np.isin(labels, range(6, 11))].tolist())
        assert not mask[labels == 255].any()
    assert values == {255}


def test_squashed_images_have_no_padding(voc: Path) -> None:
    padded = make(voc, "test").data["val"]
    squashed = make(voc, "test", protocol=Protocol(resize="squash")).data["val"]
    for i in range(6):
        one, two = padded[i], squashed[i]
        assert min(one.content_size[0]) < 65 or one.original_size[0][0] == one.original_size[0][1]
        assert two.content_size == [(65, 65)]
        assert two.original_size == one.original_size


def test_score_at_the_networks_size(voc: Path) -> None:
    test = make(voc, "test", protocol=Protocol(score_at="network")).data["val"]
    for i in range(4):
        episode = test[i]
        assert episode.original_size == episode.content_size == [(65, 65)]
        assert np.array_equal(episode.original_mask[0], episode.query_mask)


def test_supports_repeat_only_where_the_protocol_says_so(voc: Path) -> None:
    def repeated(choice: str) -> list[bool]:
        test = make(voc, "test", shots=3, protocol=Protocol(supports=choice)).data["val"]  # type: ignore[arg-type]
        draws = [test.draw(i) for i in range(40)]
        assert all(d.query not in d.supports for d in draws)
        return [len(set(d.supports)) < 3 for d in draws]

    assert not any(repeated("distinct"))
    assert any(repeated("repeated"))


def test_pairs_are_walked_one_by_one(voc: Path) -> None:
    test = make(voc, "test", protocol=Protocol(queries="pairs")).data["val"]
    pairs = [(d.query, d.class_id) for d in (test.draw(i) for i in range(len(test.pairs)))]
    assert pairs == sorted({(i, c) for c, images in test.images_of.items() for i in images})
    assert test.draw(len(pairs)).query == pairs[0][0]


def test_classes_are_trained_in_equal_shares(voc: Path) -> None:
    train = make(voc, protocol=Protocol(training_queries="classes")).data["train"]
    first = next(iter(train.images_of))
    train.images_of[first] = train.images_of[first][:2]  # a rare class
    draws = [train.draw(i) for i in range(900)]
    counts = [sum(d.class_id == c for d in draws) for c in train.images_of]
    assert len(counts) == 15
    assert min(counts) > 0.5 * 60
    assert all(d.query in train.images_of[d.class_id] and d.query not in d.supports for d in draws)


def test_coco_folds(data: dict[str, Path]) -> None:
    for order in ("interleaved", "contiguous"):
        folds = [set(fold) for fold in Coco20i(fold_order=order).folds]
        assert set().union(*folds) == set(range(1, 81))
        assert not any(a & b for a, b in itertools.combinations(folds, 2))
    root = str(data["Coco20iDataModule"])
    assert Coco20iDataModule(root, fold=2).novel_classes[:3] == [3, 7, 11]
    contiguous = Coco20iDataModule(root, fold=2, protocol=Protocol(coco_folds="contiguous"))
    assert contiguous.novel_classes == list(range(41, 61))
    assert Coco20iDataModule(root, protocol=Protocol("pfenet")).episodes == 20000


def test_choices_are_written_into_config_and_results(command: Command) -> None:
    protocol = ["--data.protocol.name=hsnet", "--data.protocol.resize=pad", "--data.episodes=null"]
    command("test", "pascal5i.yaml", "--run=runs/t", "--data.seed=null", *protocol)
    written = yaml.safe_load(Path("runs/t/config.yaml").read_text())["data"]["init_args"]
    results = json.loads(Path("runs/t/results.json").read_text())
    assert written["seed"] == results["seed"] == 0
    assert written["episodes"] == 1000
    assert results["episodes"] == 4  # of which two batches were scored
    for choices in (written["protocol"], results["protocol"]):
        assert choices["name"] == "hsnet"
        assert choices["resize"] == "pad"
        assert choices["supports"] == "repeated"
        assert choices["score_at"] == "network"
        assert None not in choices.values()
    command("test", "pascal5i.yaml", "--data.seed=null", *protocol)
    assert Path("runs/pascal5i/test-fold0-1shot-seed0/results.json").exists()


def test_manifest_gives_the_same_episodes(command: Command, voc: Path, capsys: pytest.CaptureFixture) -> None:
    settings = [f"--data.root={voc}", "--data.min_class_area=50", "--data.episodes=6", "--data.image_size=65"]
    qgnet(["episodes", "e.jsonl", "--config=lightning_configs/pascal5i.yaml", "--data.seed=5", *settings])
    assert "6 episodes in e.jsonl, sha256 " in capsys.readouterr().out
    drawn, read = make(voc, "test", seed=5, episodes=6), make(voc, "test", seed=99, episode_file="e.jsonl")
    first, second = drawn.data["val"], read.data["val"]
    assert len(second) == 6
    assert [first.draw(i) for i in range(6)] == [second.draw(i) for i in range(6)]
    test = ["test", "pascal5i.yaml", "--data.episode_file=e.jsonl", "--data.batch_size=1"]
    for share, scored in (("1.0", 6), ("2", 2)):  # the whole test, and two batches of it
        command(*test, f"--trainer.limit_test_batches={share}", f"--run=runs/{scored}")
        assert json.loads(Path(f"runs/{scored}/results.json").read_text())["episodes"] == scored


def test_manifest_survives_a_round_trip_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    draws = [NamedDraw(3, "a", ("b", "c")), NamedDraw(4, "ü", ("a", "b"))]
    write_manifest(path, draws)
    assert read_manifest(path) == draws
    path.write_text(path.read_text().replace('"b"', '"x"', 1))
    with pytest.raises(InputError, match="it was changed or cut off"):
        read_manifest(path)
    path.write_text("nonsense\n")
    with pytest.raises(InputError, match="is no manifest"):
        read_manifest(path)
    with pytest.raises(InputError, match="does not exist"):
        read_manifest(tmp_path / "none")


@pytest.mark.parametrize("draw", [NamedDraw(1, "nowhere", ("val_000",)), NamedDraw(7, "val_000", ("val_020",))])
def test_manifest_of_other_data(voc: Path, tmp_path: Path, draw: NamedDraw) -> None:
    write_manifest(tmp_path / "e.jsonl", [draw])
    with pytest.raises(InputError, match="do not fit"):
        make(voc, "test", episode_file=str(tmp_path / "e.jsonl"))
