"""Each test fails when Lightning or torch moves what ``qgnet.common.internals`` uses, and says what breaks."""

import ast
import contextlib
import inspect
import re
import signal
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.plugins.environments import SLURMEnvironment
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

import qgnet.common.internals as internals

ROOT = Path(__file__).parent.parent


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


def test_trainer_of_a_task_else_a_network_cannot_be_opened_without_one(tmp_path: Path) -> None:
    assert internals.trainer_of(Small()) is None
    trainer, task = train(tmp_path, max_epochs=1)
    assert internals.trainer_of(task) is trainer


def test_offline_logger_else_a_run_ends_where_the_server_cannot_be_had(tmp_path: Path) -> None:
    logger = WandbLogger(save_dir=tmp_path, log_model=True)
    assert internals.may_go_offline(logger)
    internals.go_offline(logger)
    assert not internals.may_go_offline(logger)
    assert WandbLogger(offline=True, log_model=False).__dict__.keys() >= {"_offline", "_log_model", "_experiment"}


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


def private(name: str) -> bool:
    """Whether a name is nobody's but its owner's; a named tuple's, and ``os._exit``, are documented."""
    documented = ("_asdict", "_replace", "_fields", "_field_defaults", "_exit")
    return name.startswith("_") and not name.startswith("__") and name not in documented


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Module → syntax tree, of all but ``internals.py``."""
    for folder, package in ((ROOT, "datamodules"), (ROOT / "src", "qgnet")):
        for path in sorted((folder / package).rglob("*.py")):
            if path.name != "internals.py":
                yield ".".join(path.relative_to(folder).with_suffix("").parts), ast.parse(path.read_text())


def own_names(tree: ast.AST) -> set[str]:
    """What a tree defines: functions, classes, and attributes that it writes."""
    defined = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    return defined | {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}


@cache
def names_of(base: type) -> set[str]:
    """Private names of a class, in its source too."""
    names = set(vars(base))
    with contextlib.suppress(OSError, TypeError):  # without source
        names |= set(re.findall(r"\b(?:self|cls)\.(_\w+)", inspect.getsource(base)))
    return set(filter(private, names))


def foreign_names(kind: type) -> set[str]:
    """Private names of the classes of other packages that a class is made of."""
    foreign = [base for base in kind.__mro__[1:] if not base.__module__.startswith(("qgnet", "datamodules"))]
    return {name for base in foreign for name in names_of(base)}


def reached_into(module: str, tree: ast.Module) -> Iterator[str]:
    """What a file uses of others' private names: imported, read from an object, or shared with a base class."""
    own = own_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from (f"from {node.module} import {part}" for part in parts if private(part))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if any(map(private, alias.name.split("."))))
        elif isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            inherited = owner in ("self", "cls", "super()")  # may be of an own base class in another file
            foreign = private(node.attr) and node.attr not in own and not inherited
            loop = node.attr.endswith("_loop") and owner != "asyncio"
            if foreign or loop:
                yield ast.unparse(node)
        elif isinstance(node, ast.ClassDef):
            kind = getattr(import_module(module), node.name, None)
            used = own_names(node) | {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
            if isinstance(kind, type):
                yield from (f"{node.name}.{name}" for name in used & foreign_names(kind))


def test_no_other_file_uses_private_names() -> None:
    found = {module: list(reached_into(module, tree)) for module, tree in sources()}
    assert not {module: names for module, names in found.items() if names}


@pytest.mark.parametrize(
    "code",
    [
        "from torch.nn.modules.batchnorm import _BatchNorm",
        "from torch.utils._pytree import tree_map",
        "import torch._dynamo",
        "torch._dynamo.reset()",
        "trainer.fit_loop.max_batches",
        "def f(module): module._buffers.clear()",
        "class EpisodeFigures(pl.Callback):\n    def f(self): self.trainer._results",
        "class Wandb(WandbLogger):\n    def f(self): self._offline = True",
    ],
)
def test_the_search_finds(code: str) -> None:
    module = "qgnet.loggers.wandb" if "Wandb" in code else "qgnet.callbacks.episode_figures"
    assert list(reached_into(module, ast.parse(code)))
