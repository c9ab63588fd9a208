"""What the tasks log is reduced over processes on the device of the network: NCCL takes no CPU tensors."""

from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import Command
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torch.overrides import TorchFunctionMode

from qgnet.tasks.base import Task


@pytest.mark.parametrize(("stage", "written", "messages"), [("train", True, 1), ("train", False, 0), ("val", False, 1)])
def test_one_message_carries_all_means_and_only_when_they_are_written(stage: str, written: bool, messages: int) -> None:
    sent: list[Tensor] = []

    def reduce(values: Tensor, reduce_op: str) -> Tensor:
        sent.append(values)
        return values + 1

    trainer = SimpleNamespace(
        world_size=2,
        strategy=SimpleNamespace(reduce=reduce),
        _logger_connector=SimpleNamespace(should_update_logs=written),
    )
    got: dict[str, Tensor] = {}
    task = SimpleNamespace(trainer=trainer, log_dict=lambda values, **how: got.update(values))
    values = {"loss": torch.tensor(1.0, requires_grad=True), "spread": torch.tensor(2.0)}
    Task.log_means(task, stage, values, 3)
    assert len(sent) == messages
    assert {name: float(value) for name, value in got.items()} == {
        f"{stage}/loss": 1.0 + messages,
        f"{stage}/spread": 2.0 + messages,
    }


class OnDevice(Tensor):
    """Stands for a tensor on the network's device: what is computed from one is one."""


class MadeWhereSaid(TorchFunctionMode):
    """A tensor made with ``device=…`` is on the network's device, one made without on the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        there = isinstance(made, Tensor) and (kwargs or {}).get("device") is not None
        return made.as_subclass(OnDevice) if there else made


@pytest.mark.parametrize("config", ["demo/pretrain.yaml", "demo/qgnet.yaml"])
@pytest.mark.parametrize("subcommand", ["fit", "test"])
def test_what_is_logged_lies_on_the_networks_device(
    command: Command, monkeypatch: pytest.MonkeyPatch, subcommand: str, config: str
) -> None:
    kinds: dict[str, str] = {}
    log = pl.LightningModule.log

    def watched(self: Task, name: str, value: Any, *how: Any, **more: Any) -> None:
        kinds[name] = type(value).__name__
        log(self, name, value, *how, **more)

    def moved(self: Task, batch: Any, dataloader_idx: int) -> Any:
        return apply_to_collection(batch, Tensor, lambda tensor: tensor.as_subclass(OnDevice))

    monkeypatch.setattr(pl.LightningModule, "log", watched)
    monkeypatch.setattr(Task, "on_after_batch_transfer", moved)
    more = ["--trainer.enable_checkpointing=false", "--trainer.log_every_n_steps=1"] if subcommand == "fit" else []
    with MadeWhereSaid():
        command(subcommand, config, "--run=runs/x", *more)
    stages = {name.split("/")[0] for name in kinds}
    assert stages == ({"train", "val"} if subcommand == "fit" else {"test"})
    assert {name: kind for name, kind in kinds.items() if kind not in ("OnDevice", "float")} == {}
