"""The contrastive task: queue, key encoder, embeddings, weights of its terms."""

import itertools
from collections import deque
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from conftest import TINY_PRETRAINING, TINY_SCENES, Command
from test_pretraining import PlainMoCo, state

from qgnet.cli import parse
from qgnet.networks.contrast import MomentumPair
from qgnet.networks.correspondence import untrained_prior_map
from qgnet.networks.encoders import create_encoder
from qgnet.networks.layers import resize
from qgnet.tasks.base import normalise
from qgnet.tasks.pretraining import PriorMaps

GLOBAL_ONLY = ["--model.local_global=0", "--model.local_local=0"]


def test_without_local_terms_a_step_is_moco_v2s(workdir: Path) -> None:
    optimiser = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.05", "--model.optimizer.momentum=0.9"]
    tiny = [*TINY_PRETRAINING, *TINY_SCENES, *GLOBAL_ONLY, "--model.queue_size=10"]
    task, data = parse(["--config=lightning_configs/demo/pretrain.yaml", *tiny, *optimiser])
    data.setup("fit")
    task.trainer = pl.Trainer(logger=False)
    task.log_dict = lambda *_, **__: None
    reference = PlainMoCo(task)
    optimizer = task.configure_optimizers()["optimizer"]
    task.net.train()
    for batch_idx, views in enumerate(itertools.islice(data.train_dataloader(), 6)):
        loss = task.training_step(views, batch_idx)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected = reference.step(*(normalise(v) for v in views.global_views.unbind(1)))
        assert float(loss) == pytest.approx(expected, abs=1e-6)
        assert torch.allclose(task.net.queue, reference.queue, atol=1e-6)
        assert int(task.net.queue_position) == reference.pointer
    for own, plain in ((task.net.query, reference.query), (task.net.key, reference.key)):
        for a, b in zip(own.parameters(), plain.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-6)


def test_terms_without_weight_cost_nothing(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[tuple[str, int]] = []
    for name in ("query", "key"):
        task, data = parse(
            ["--config=lightning_configs/demo/pretrain.yaml", *TINY_PRETRAINING, *TINY_SCENES, *GLOBAL_ONLY]
        )
        data.setup("fit")
        task.trainer = pl.Trainer(logger=False)
        task.log_dict = lambda *_, **__: None
        getattr(task.net, name).register_forward_pre_hook(
            lambda _, args, name=name: sides.append((name, args[0].shape[-1]))
        )
        task.training_step(next(iter(data.train_dataloader())), 0)
    assert sides == [("query", 48), ("query", 48), ("key", 48), ("key", 48)]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (["--model.global_global=-1"], "model.global_global is -1.0; expected at least 0"),
        ([*GLOBAL_ONLY, "--model.global_global=0"], "expected at least one above 0"),
    ],
)
def test_weights_that_train_nothing_are_refused(
    command: Command, weights: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stop:
        command("fit", "demo/pretrain.yaml", *weights)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("size", [3, 7, 8])
def test_the_queue_holds_the_newest_keys_whatever_the_batch(size: int) -> None:
    pair = MomentumPair(create_encoder("test_resnet", high_stage=3, dilated=False), dim=5, queue_size=size)
    expected = deque(pair.queue.unbind(0), maxlen=size)
    generator = torch.Generator().manual_seed(1)
    for batch in (4, 4, 1, 10, 2):
        keys = torch.randn(batch, 5, generator=generator)
        pair.enqueue(keys)
        expected.extend(keys.unbind(0))
        oldest_first = pair.queue.roll(-int(pair.queue_position), dims=0)
        assert torch.equal(oldest_first, torch.stack(list(expected)))


def test_a_training_fills_a_queue_that_no_batch_fills_evenly(command: Command) -> None:
    command("fit", "demo/pretrain.yaml", "--run=runs/x", "--trainer.max_steps=-1", "--model.queue_size=3")
    before, queue = (
        MomentumPair(create_encoder("test_resnet", 3, dilated=False), queue_size=3).queue,
        state("x")["net.queue"],
    )
    assert torch.allclose(queue.norm(dim=1), torch.ones(3), atol=1e-5)
    assert not (queue == before).all(dim=1).any()


def test_embeddings_are_normalised_in_float32_under_autocast() -> None:
    pair = MomentumPair(create_encoder("test_resnet", high_stage=3, dilated=False), dim=64, queue_size=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        keys = pair.embed_keys(torch.rand(4, 3, 48, 48))
    assert keys.dtype == torch.float32
    assert torch.allclose(keys.norm(dim=1), torch.ones(4), atol=1e-6)  # bfloat16 would be off by 1e-3


def test_processes_begin_with_the_same_queue_whatever_their_random_state() -> None:
    queues = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        queues.append(
            MomentumPair(create_encoder("test_resnet", high_stage=3, dilated=False), dim=8, queue_size=6).queue
        )
    assert torch.equal(*queues)


def test_the_queue_of_patches_is_filled_with_the_keys_of_patches(command: Command) -> None:
    command("fit", "demo/pretrain.yaml", "--run=runs/x", "--config=lightning_configs/ablations/patch_queue.yaml")
    weights = torch.load("runs/x/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    start = MomentumPair(create_encoder("test_resnet", high_stage=3, dilated=False), queue_size=8, patch_queue=True)
    queues = [weights["net.queue"], weights["net.patch_queue"]]
    assert not any(
        (new == old).all(dim=1).any() for new, old in zip(queues, (start.queue, start.patch_queue), strict=True)
    )
    assert not torch.isclose(queues[0] @ queues[1].T, torch.ones(())).any(), "both queues hold the same keys"


def test_prior_maps_are_those_of_the_encoder_they_are_made_of() -> None:
    images = torch.randint(256, (1, 3, 65, 65), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    encoders = [create_encoder("test_resnet", high_stage=3).eval() for _ in range(2)]
    maps = [PriorMaps(encoder)(images) for encoder in encoders]
    assert not torch.allclose(*maps)
    with torch.no_grad():
        features = encoders[0].encode_high(normalise(images))
    assert torch.allclose(maps[0], resize(untrained_prior_map(features), (65, 65)), atol=1e-6)


def test_a_queue_larger_than_the_images_is_warned_of(command: Command) -> None:
    with pytest.warns(UserWarning, match="an image's own older keys are among its negatives"):
        command("fit", "demo/pretrain.yaml", "--model.queue_size=500")
