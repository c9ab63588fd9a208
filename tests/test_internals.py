"""Each test fails when Lightning or torch moves what ``qgnet.common.internals`` uses, and says what breaks."""

import ast
import inspect
import signal
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.plugins.environments import SLURMEnvironment
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

import qgnet.common.internals as internals
from qgnet.cli import QGNetCLI

ROOT = Path(__file__).parent.parent
OVERRIDDEN = {
    "_parse_ckpt_path": "a checkpoint's hyper-parameters would beat YAML and command line",
    "_prepare_subcommand_kwargs": "a test would print a table of every class's score",
    "_run_subcommand": "processes that were started for a failed run would wait for ever",
    "_instantiate_trainer": "our own callbacks would be missing",
    "_get": "loggers and plugins of the configuration could not be read",
}


class Small(pl.LightningModule):
    """Notes at each step what the functions say."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen: list[tuple[int, int, int, bool]] = []
        self.counted: list[bool] = []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layer(batch).mean()

    def on_train_batch_end(self, *_: Any) -> None:
        functions = (internals.epochs_trained, internals.batches_trained, internals.batches_of_epoch)
        self.seen.append((*(f(self.trainer) for f in functions), internals.logs_this_step(self.trainer)))
        self.counted.append(internals.counts_finished_epoch(self.trainer))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def train(folder: Path, **settings: Any) -> tuple[pl.Trainer, Small]:
    model = Small()
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
        limit_train_batches=3,
        log_every_n_steps=2,
        **settings,
    )
    trainer.fit(model, DataLoader(torch.ones(4, 1)))
    return trainer, model


def test_progress_else_a_resumed_training_sees_wrong_data(tmp_path: Path) -> None:
    trainer, model = train(tmp_path, max_epochs=2)
    assert [seen[:3] for seen in model.seen] == [(0, 1, 3), (0, 2, 3), (0, 3, 3), (1, 1, 3), (1, 2, 3), (1, 3, 3)]
    assert internals.epochs_trained(trainer) == 2
    assert not any(model.counted)
    assert internals.counts_finished_epoch(trainer)


def test_interval_of_logging_else_speed_is_measured_at_other_steps_than_it_is_logged(tmp_path: Path) -> None:
    _, model = train(tmp_path, max_epochs=2)
    assert [seen[3] for seen in model.seen] == [False, True] * 3


def test_restarting_else_a_training_with_max_steps_repeats_its_last_epoch(tmp_path: Path) -> None:
    trainer, _ = train(tmp_path, max_epochs=1)
    trainer.fit_loop._restarting = trainer.fit_loop.epoch_loop.restarting = True
    assert trainer.fit_loop.restarting  # the property shows what the private name holds
    internals.begin_next_epoch(trainer)
    assert not trainer.fit_loop.restarting
    assert not trainer.fit_loop.epoch_loop.restarting


def test_cluster_environment_else_a_slurm_job_is_not_requeued(tmp_path: Path) -> None:
    slurm = SLURMEnvironment(auto_requeue=True, requeue_signal=signal.SIGUSR2)
    trainer = pl.Trainer(accelerator="cpu", plugins=[slurm], logger=False, default_root_dir=tmp_path)
    assert internals.cluster_environment(trainer) is slurm


def test_ignored_buffers_else_ddp_sends_the_queue_of_keys_at_every_step(tmp_path: Path) -> None:
    module = nn.BatchNorm1d(2)
    internals.do_not_send_buffers(module)
    rendezvous = f"file://{tmp_path / 'rendezvous'}"
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(module)
        assert not list(wrapped.modules_buffers)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("method", OVERRIDDEN)
def test_overridden_methods_of_lightnings_cli(method: str) -> None:
    theirs = getattr(LightningCLI, method, None)
    assert theirs is not None, OVERRIDDEN[method]
    expected = list(inspect.signature(theirs).parameters)
    assert list(inspect.signature(getattr(QGNetCLI, method)).parameters) == expected, OVERRIDDEN[method]


def test_no_other_file_reaches_into_lightning() -> None:
    """Only ``internals.py`` reads a private name, or the loops, of a trainer; and QGNetCLI overrides what is listed."""
    for folder in ("src", "datamodules"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name == "internals.py":
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Attribute):
                    continue
                owner = ast.unparse(node.value)
                private = node.attr.startswith("_") and not node.attr.startswith("__") and "trainer" in owner
                assert not private, f"{path.name}: {ast.unparse(node)}"
                loop = node.attr.endswith("_loop") and owner != "asyncio"
                assert not loop, f"{path.name}: {ast.unparse(node)}"
    own = {name for name in vars(QGNetCLI) if name.startswith("_") and hasattr(LightningCLI, name)}
    assert {name for name in own if not name.startswith("__") and name != "_abc_impl"} <= set(OVERRIDDEN)
