"""Each image of an evaluation is encoded once, and nobody can tell by the result."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import CONFIGS, Command, start, succeed, tiny
from hypothesis import given
from hypothesis import strategies as st

from datamodules import Pascal5iDataModule
from datamodules.episodes.dataset import EpisodeDataset
from datamodules.episodes.plan import limited, shares, visiting_order
from qgnet.cli import main
from qgnet.networks.qgnet import QGNet
from qgnet.tasks import feature_cache
from qgnet.tasks.episodic import EpisodicTask
from qgnet.tasks.feature_cache import CachedInference, FeatureCache

MARGINS = ["--model.score_maps=[ridge,nearest]", "--model.add_to_score_maps=true"]
EPISODES = 43
"""Of 20 queries, four to a class."""
WHOLE = ["--trainer.limit_test_batches=1.0", "--trainer.limit_predict_batches=1.0", f"--data.episodes={EPISODES}"]
Arguments = Callable[..., list[str]]


@pytest.fixture
def episodic(workdir: Path, data: dict[str, Path]) -> Arguments:
    """``episodic("test", "a", …)``: the arguments of a run in ``runs/a``."""
    settings = tiny(CONFIGS / "pascal5i.yaml", data)
    config = "--config=lightning_configs/pascal5i.yaml"
    return lambda command, run, *extra: [command, config, *settings, *MARGINS, f"--run=runs/{run}", *extra]


@pytest.fixture
def trained(episodic: Arguments) -> list[str]:
    main(episodic("fit", "trained"))
    return [*WHOLE, "--ckpt_path=runs/trained/checkpoints/last.ckpt"]


@pytest.fixture
def drawn(voc: Path) -> EpisodeDataset:
    """What is tested."""
    data = Pascal5iDataModule(str(voc), episodes=EPISODES, image_size=65, min_class_area=50)
    data.setup("test")
    return data.data["val"]


WAYS = {
    "plain": ["--model.reuse=false", "--data.batch_size=1"],
    "one": ["--data.batch_size=1", "--data.num_workers=2"],
    "eight": ["--data.batch_size=8"],
}


def test_the_same_integers_for_any_batch_size_workers_processes_and_cache(
    episodic: Arguments, trained: list[str]
) -> None:
    test = [*trained, "--data.negative=0.5", "--data.shots=2"]
    two = start(*episodic("test", "two", *test, *WAYS["eight"], "--trainer.devices=2", "--trainer.strategy=ddp"))
    for name, way in WAYS.items():
        main(episodic("test", name, *test, *way))
    succeed(two)
    expected, *others = (json.loads(Path(f"runs/{name}/results.json").read_text()) for name in (*WAYS, "two"))
    for found in others:
        assert found["scores"] == expected["scores"]
        assert found["control"] == expected["control"]
    assert expected["episodes"] == EPISODES
    assert expected["control"]["absent_pixels"] >= 0


def test_predicted_files_are_the_same_and_named_by_their_episode(
    episodic: Arguments, trained: list[str], drawn: EpisodeDataset
) -> None:
    for name, way in WAYS.items():
        main(episodic("predict", name, *trained, *way))
    files = {name: {f.name: f.read_bytes() for f in Path(f"runs/{name}/predictions").iterdir()} for name in WAYS}
    assert files["plain"] == files["one"] == files["eight"]
    numbers_and_queries = [name.rsplit("_", 1)[0] for name in sorted(files["plain"])]
    assert numbers_and_queries == [f"{i:05d}_{drawn.named(i).query}" for i in range(EPISODES)]


def count_encodings(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each is called from now on."""
    calls = {"shared_features": 0, "encode_query": 0, "encode_support": 0}

    def counted(name: str) -> None:
        encode = getattr(QGNet, name)

        def call(self: QGNet, *args: torch.Tensor) -> object:
            calls[name] += 1
            return encode(self, *args)

        monkeypatch.setattr(QGNet, name, call)

    for name in calls:
        counted(name)
    return calls


def test_each_image_is_encoded_once(
    episodic: Arguments, trained: list[str], drawn: EpisodeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = [drawn.draw(i) for i in range(EPISODES)]
    with monkeypatch.context() as patch:
        calls = count_encodings(patch)
        main(episodic("test", "on", *trained, "--data.batch_size=4"))
    assert calls["encode_query"] == len({d.query for d in draws}) == 20
    assert calls["encode_support"] == len({(s, d.class_id) for d in draws for s in d.supports}) <= 20
    assert calls["shared_features"] == len({d.query for d in draws} | {s for d in draws for s in d.supports})
    calls = count_encodings(monkeypatch)
    main(episodic("test", "off", *trained, "--data.batch_size=4", "--model.reuse=false"))
    assert calls == {"shared_features": 2 * EPISODES, "encode_query": EPISODES, "encode_support": EPISODES}


@pytest.mark.parametrize("frozen", [True, False])
def test_features_are_never_older_than_the_weights(
    episodic: Arguments, monkeypatch: pytest.MonkeyPatch, frozen: bool
) -> None:
    seen: list[bool] = []
    weights: list[list[float]] = []
    step = EpisodicTask.validation_step

    def checked(self: EpisodicTask, episode: object, batch_idx: int) -> object:
        found = step(self, episode, batch_idx)
        fresh = CachedInference(0).segment(self.net, episode)
        seen.append(torch.equal(found.output.logits, fresh.logits))
        trained = [self.net.reduce_query, *([] if frozen else [self.net.encoder])]
        weights.append([float(p.double().sum()) for module in trained for p in module.parameters()])
        return found

    monkeypatch.setattr(EpisodicTask, "validation_step", checked)
    settings = [f"--model.freeze_encoder={frozen}", "--trainer.max_epochs=3", "--trainer.max_steps=-1"]
    settings += ["--trainer.num_sanity_val_steps=1", "--trainer.limit_val_batches=1.0", "--data.episodes=8"]
    main(episodic("fit", "x", *settings))
    assert len(seen) == 1 + 3 * 4
    assert all(seen)
    of_epochs = [weights[0], *weights[1::4]]
    assert all(one != other for one, other in itertools.combinations(of_epochs, 2))


def test_a_limited_test_takes_the_first_episodes(episodic: Arguments, trained: list[str]) -> None:
    main(episodic("test", "limited", *trained, "--trainer.limit_test_batches=2", "--data.batch_size=15"))
    main(episodic("test", "first", *trained, "--data.episodes=30", "--data.batch_size=15"))
    limited_run, first = (json.loads(Path(f"runs/{run}/results.json").read_text()) for run in ("limited", "first"))
    assert limited_run["episodes"] == 30
    assert limited_run["scores"] == first["scores"]


def test_a_memory_smaller_than_one_image_is_told_of_and_changes_nothing(
    episodic: Arguments, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(episodic("test", "large", *trained))
    monkeypatch.setattr(feature_cache, "MB", 1000)
    with pytest.warns(UserWarning, match=r"model.reuse_mb is too small .* takes \d+ MB"):
        main(episodic("test", "small", *trained, "--model.reuse_mb=2"))
    large, small = (json.loads(Path(f"runs/{run}/results.json").read_text()) for run in ("large", "small"))
    assert large["scores"] == small["scores"]


def test_a_negative_memory_is_refused(command: Command, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        command("test", "demo/qgnet.yaml", "--model.reuse_mb=-1")
    assert stop.value.code == 2
    assert "model.reuse_mb is -1; expected at least 0" in capsys.readouterr().err


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 40)), max_size=60), st.integers(0, 100))
def test_the_memory_never_holds_more_than_its_room_and_forgets_the_oldest(
    asked: list[tuple[int, int]], room: int
) -> None:
    cache, order = FeatureCache(room), []
    for key, size in asked:
        known = key in order
        value = cache.get(key, lambda size=size: [(torch.zeros(size, dtype=torch.uint8),), None])
        if known:
            order.remove(key)
        if value[0][0].numel() <= room:
            order.append(key)
        kept = [k for k in order if k in cache.entries]
        assert kept == list(cache.entries) == order[len(order) - len(kept) :]
        order = kept
        assert cache.used == sum(n for _, n in cache.entries.values()) <= room
    cache.clear()
    assert cache.used == 0


def test_what_is_kept_counts_with_the_storage_behind_it() -> None:
    cache = FeatureCache(50)
    cache.get("part", lambda: torch.zeros(100, dtype=torch.uint8)[:10])
    assert (cache.used, cache.largest) == (0, 100)


def test_low_priority_takes_only_what_nothing_else_needs() -> None:
    cache = FeatureCache(100)

    def ask(key: str, size: int, low_priority: bool = False) -> None:
        cache.get(key, lambda: {2: torch.zeros(size, dtype=torch.uint8)}, low_priority)
        assert cache.used == sum(n for place in (cache.entries, cache.low_priority) for _, n in place.values()) <= 100

    ask("a", 30)
    ask("x", 40, low_priority=True)
    ask("y", 50, low_priority=True)
    assert [*cache.entries, *cache.low_priority] == ["a", "y"]
    ask("b", 60)
    assert [*cache.entries, *cache.low_priority] == ["a", "b"]
    ask("x", 40, low_priority=True)  # there is room for 10
    ask("z", 200, low_priority=True)
    assert [*cache.entries, *cache.low_priority] == ["a", "b"]
    assert cache.largest == 60
    ask("c", 20)
    assert [*cache.entries] == ["b", "c"]


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(0, 40), st.integers(1, 4))
def test_an_order_has_each_episode_once_and_each_query_in_one_run(queries: list[int], first: int, ranks: int) -> None:
    total, first = len(queries), min(first, len(queries))
    order = visiting_order(queries, first)
    assert sorted(order[:first]) == list(range(first))
    assert sorted(order) == list(range(total))
    for part in (order[:first], order[first:]):
        runs = [queries[i] for k, i in enumerate(part) if k == 0 or queries[part[k - 1]] != queries[i]]
        assert len(runs) == len(set(runs))
        assert all(i < j for i, j in itertools.pairwise(part) if queries[i] == queries[j])
    parts = [[i for run in shares(total, first, rank, ranks) for i in run] for rank in range(ranks)]
    assert sorted(i for part in parts for i in part) == list(range(total))
    if first % ranks == 0:
        assert all(sum(i < first for i in part) == first // ranks for part in parts)


def test_limits_are_those_of_lightning() -> None:
    assert [limited(x, 10) for x in (None, 3, 30, 1.0, 0.25, 0.0, 0)] == [10, 3, 10, 10, 2, 0, 0]
