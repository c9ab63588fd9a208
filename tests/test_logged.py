"""What the tasks log is reduced over processes on the device of the network: NCCL takes no CPU tensors."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

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
    Task._log_means(task, stage, values, 3)
    assert len(sent) == messages
    assert {name: float(value) for name, value in got.items()} == {
        f"{stage}/loss": 1.0 + messages,
        f"{stage}/spread": 2.0 + messages,
    }
