"""The whole work on a GPU, without one: no tensors of two devices meet, and the host waits for it where it must."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from conftest import Command
from PIL import Image
from pretend_gpu import MIXED_PRECISION, OnGpu, PretendGpu, answers, pretend_gpu
from serving import DISC, browser, paint, segment, write_scenes
from torch._subclasses.fake_tensor import FakeTensorMode

import qgnet
from datamodules.files import read_index_mask
from qgnet.commands import main as qgnet_command
from qgnet.losses import segmentation_loss
from qgnet.networks.encoders import create_encoder
from qgnet.networks.qgnet import QGNet
from qgnet.tasks.base import Task, normalise
from qgnet.tasks.episodic import EpisodicTask

QGNET, PRETRAIN = "demo/qgnet.yaml", "demo/pretrain.yaml"
ON_GPU = ["--trainer.accelerator=gpu", "--trainer.devices=1"]
THREE_STEPS = ["--trainer.limit_train_batches=3", "--trainer.max_steps=3", "--trainer.limit_val_batches=1"]
EPISODES = ["--data.train_episodes=6", "--data.episodes=40"]
TRAINING_WAITS = {"32-true": 0, "bf16-mixed": 0, "16-mixed": 1}
"""How often the host waits for the GPU in a step that is not logged; in float16 whether the gradients are finite."""
TEST_WAITS = 1
"""The same of a test step without its pictures: for the IoUs of its episodes, of which the extremes are shown."""
RANDOM = {"encoder": "test_resnet", "encoder_weights": "random", "image_size": 65}


@pytest.fixture
def gpu() -> Iterator[PretendGpu]:
    with pretend_gpu() as gpu:
        yield gpu


def marked(gpu: PretendGpu, owner: type, method: str, monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[str, str]]]:
    """Per call of a method, what was waited for until the next."""
    original = getattr(owner, method)
    waits: list[list[tuple[str, str]]] = []

    def called(self: object, *args: object) -> object:
        gpu.waits = []
        waits.append(gpu.waits)
        return original(self, *args)

    monkeypatch.setattr(owner, method, called)
    return waits


def test_the_pretended_gpu_tells_what_a_gpu_would(gpu: PretendGpu) -> None:
    here, there = torch.ones(3), torch.ones(3, device="cuda").requires_grad_()
    for mistake in (
        lambda: here + there,
        lambda: here.add_(there.sum()),
        lambda: torch.stack([there.sum(), here.sum()]),
        lambda: F.conv1d(there.view(1, 1, 3), here.view(1, 1, 3)),
        there.numpy,
    ):
        with pytest.raises((AssertionError, RuntimeError)):
            mistake()
    (there * here.sum()).sum().backward()
    assert there.grad is not None
    assert there.grad.device == there.device == torch.device("cuda", 0)
    assert not gpu.waits
    for wait in (
        lambda: there.sum().item(),
        lambda: there[there > 2],
        there.nonzero,
        there.cpu,
        lambda: bool(there.any()),
        lambda: torch.tensor([1.0], device="cuda"),
        lambda: here.to("cuda", non_blocking=True),
    ):
        gpu.waits = []
        wait()
        assert len(gpu.waits) == 1
    gpu.waits = []
    here.pin_memory().to("cuda", non_blocking=True)
    assert not gpu.waits


@pytest.mark.parametrize("precision", TRAINING_WAITS)
@pytest.mark.parametrize("config", [QGNET, PRETRAIN])
def test_a_training_step_does_not_wait_for_the_gpu(
    command: Command, gpu: PretendGpu, config: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = marked(gpu, Task, "on_train_batch_start", monkeypatch)
    settings = [*THREE_STEPS, *(EPISODES if config == QGNET else [])]
    command("fit", config, *settings, *ON_GPU, f"--trainer.precision={precision}")
    assert len(waits) == 3
    assert len(waits[1]) <= TRAINING_WAITS[precision], waits[1]


@pytest.mark.parametrize("config", [QGNET, PRETRAIN])
def test_a_gpu_trains_tests_and_predicts_as_a_cpu(command: Command, config: str) -> None:
    last = "--ckpt_path=runs/cpu/checkpoints/last.ckpt"
    weights, tables = {}, {}
    for device, options, place in (("cpu", [], nullcontext()), ("gpu", ON_GPU, pretend_gpu())):
        with place:
            command("fit", config, *options, f"--run=runs/{device}")
            command("test", config, *options, last, f"--run=runs/{device}-test")
            command("predict", config, *options, last, f"--run=runs/{device}-predict")
        weights[device] = torch.load(f"runs/{device}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        tables[device] = Path(f"runs/{device}-test/metrics.csv").read_text()
    assert all(torch.equal(value, weights["cpu"][name]) for name, value in weights["gpu"].items())
    assert tables["gpu"] == tables["cpu"]


def test_a_test_step_waits_for_the_gpu_once(command: Command, gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = marked(gpu, EpisodicTask, "test_step", monkeypatch)
    command("test", QGNET, *ON_GPU, *EPISODES, "--trainer.limit_test_batches=4")
    numbers = [(operation, line) for operation, line in waits[-2] if ".cpu().numpy()" not in line]
    assert len(numbers) <= TEST_WAITS, numbers


@pytest.mark.parametrize(("tile", "bf16"), [(False, False), (True, False), (False, True)])
def test_a_segmenter_runs_on_a_gpu(gpu: PretendGpu, tmp_path: Path, tile: bool, bf16: bool) -> None:
    files = sorted(write_scenes(tmp_path).iterdir())
    pairs = [(file, DISC) for file in files[:2]]
    segmenter = qgnet.Segmenter(**RANDOM, bf16=bf16, tile=tile).fit(pairs)
    assert isinstance(next(segmenter.model.net.parameters()), OnGpu)
    found = segmenter.predict(files[2])
    segmenter.save(tmp_path / "kept.pt")
    on_cpu = qgnet.Segmenter.load(tmp_path / "kept.pt", device="cpu")
    assert (found.mask == qgnet.Segmenter.load(tmp_path / "kept.pt").predict(files[2]).mask).all()
    if not bf16:
        assert (found.probability == on_cpu.fit(pairs).predict(files[2]).probability).all()


def test_the_calibrated_model_and_its_command_run_on_a_gpu(gpu: PretendGpu, tmp_path: Path) -> None:
    folder, mask, out = write_scenes(tmp_path / "scenes"), tmp_path / "mask.png", tmp_path / "out"
    Image.fromarray(DISC * 255).save(mask)
    qgnet_command(
        ["segment", str(folder), "--support", str(folder / "a0.png"), str(mask), "--out", str(out), "--workers", "0"]
    )
    assert read_index_mask(out / "a1.png").shape == DISC.shape
    assert any("segmenter.py" in place for _, place in gpu.waits)


def test_the_pages_worker_runs_on_a_gpu(gpu: PretendGpu, tmp_path: Path) -> None:
    page = browser(write_scenes(tmp_path), qgnet.Segmenter(**RANDOM))
    page.app.state.workspace.worker.thread = gpu.thread()
    with page:
        paint(page, "a0.png", DISC)
        first, second = segment(page), segment(page)  # the second time from memory
    assert second == first
    assert isinstance(next(page.app.state.workspace.worker.segmenter.model.net.parameters()), OnGpu)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_torchs_own_fake_tensors_find_no_two_devices(dtype: torch.dtype) -> None:
    with answers(MIXED_PRECISION), FakeTensorMode():
        net = QGNet(create_encoder("test_resnet", 3), create_encoder("test_resnet", 3), width=8, levels=[1, 0.5])
        for module in net.modules():
            for name, parameter in module.named_parameters(recurse=False):
                setattr(module, name, torch.nn.Parameter(parameter.detach().to("cuda"), parameter.requires_grad))
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to("cuda"))
        image, mask = (torch.zeros(shape, dtype=torch.uint8, device="cuda") for shape in ((2, 3, 65, 65), (2, 65, 65)))
        everywhere = patch("qgnet.networks.qgnet.foreground_keys", lambda masked, *_: masked.flatten(2))
        with everywhere, torch.autocast("cuda", dtype, enabled=dtype != torch.float32):  # their number depends on data
            output = net(normalise(image), normalise(image[:, None]), mask[:, None])
            losses = segmentation_loss(output, mask, 3.0)
    assert {x.device.type for x in (*output.level_logits, output.logits, *output.maps.values(), *losses)} == {"cuda"}
    assert {output.maps["guided"].dtype, *(loss.dtype for loss in losses)} == {torch.float32}
