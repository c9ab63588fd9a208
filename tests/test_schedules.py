"""The learning rate's schedule: by its name, or by the class of one of torch's."""

import csv
from pathlib import Path

import pytest
from conftest import Command
from torch.optim.lr_scheduler import ConstantLR

from qgnet import FewShotSegmentation
from qgnet.common.errors import InputError
from qgnet.tasks.matching import SupportMatching

SGD = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.5"]
COSINE = ["--model.schedule=torch.optim.lr_scheduler.CosineAnnealingLR", "--model.schedule.T_max=4"]
FIT = ["--trainer.max_steps=4", "--trainer.max_epochs=-1", "--trainer.limit_val_batches=0"]
FIT += ["--trainer.limit_train_batches=4", "--trainer.log_every_n_steps=1"]


def rates(run: str) -> list[float]:
    rows = list(csv.DictReader((Path(run) / "metrics.csv").open()))
    return [float(row[name]) for row in rows for name in row if name.startswith("lr-") and row[name]]


@pytest.mark.parametrize("config", ["demo/qgnet.yaml", "demo/pretrain.yaml"])
@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (["--model.schedule=poly"], [(1 - i / 4) ** 0.9 / 2 for i in range(4)]),
        (["--model.schedule=step"], [0.5, 0.5, 0.5, 0.05]),
        (["--model.schedule=constant"], [0.5] * 4),
        (COSINE, [0.5, 0.4267767, 0.25, 0.0732233]),
    ],
)
def test_the_rate_follows_the_schedule(
    command: Command, config: str, schedule: list[str], expected: list[float]
) -> None:
    command("fit", config, "--run=runs/x", *FIT, *SGD, *schedule)
    assert rates("runs/x") == pytest.approx(expected)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (["--model.schedule=torch.optim.lr_scheduler.ReduceLROnPlateau"], "follows a metric"),
        (["--model.schedule=torch.optim.lr_scheduler.OneCycleLR", "--model.schedule.max_lr=1"], "model.schedule: "),
        ([COSINE[0], "--model.schedule.T_max=0"], "model.schedule: integer modulo by zero. Correct"),
        ([*COSINE, "--model.schedule.last_epoch=3"], "model.schedule: param 'initial_lr' is not specified"),
        ([*COSINE, "--model.schedule.eta_min=.nan"], "model.schedule.eta_min is nan"),
        (["--model.schedule=linear"], "'poly', 'cosine', 'step', 'constant'"),
    ],
)
def test_a_schedule_that_cannot_be(
    command: Command, schedule: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stop:
        command("fit", "demo/qgnet.yaml", "--run=runs/x", *schedule)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not Path("runs/x").exists()


def test_in_python_a_function_is_a_schedule_but_no_other_choice() -> None:
    network = {"encoder": "test_resnet", "prior_encoder": "test_resnet", "width": 8, "levels": (1, 0.5)}
    FewShotSegmentation(**network, schedule=ConstantLR)
    with pytest.raises(InputError, match=r"model\.schedule is 'linear'; expected one of poly"):
        FewShotSegmentation(**network, schedule="linear")
    with pytest.raises(InputError, match=r"model\.method is .*; expected one of nearest"):
        SupportMatching("test_resnet", method=len)


def test_a_schedule_that_ends_before_the_training(command: Command, capsys: pytest.CaptureFixture) -> None:
    one_cycle = ["--model.schedule=torch.optim.lr_scheduler.OneCycleLR", "--model.schedule.max_lr=1"]
    with pytest.raises(SystemExit):
        command("fit", "demo/qgnet.yaml", "--run=runs/x", *FIT, *SGD, *one_cycle, "--model.schedule.total_steps=3")
    assert "OneCycleLR with 3 steps, but the training has 4" in capsys.readouterr().err
    assert not Path("runs/x").exists()
    command("fit", "demo/qgnet.yaml", "--run=runs/y", *FIT, *SGD, *one_cycle, "--model.schedule.total_steps=4")
    assert len(rates("runs/y")) == 4


@pytest.mark.parametrize("schedule", ["poly", "cosine", "step"])
def test_a_training_that_is_prolonged_goes_on_as_if_it_had_been_that_long(command: Command, schedule: str) -> None:
    """Its first step, too, whose rate the checkpoint holds as of the shorter training."""
    fit = ["fit", "demo/qgnet.yaml", "--trainer.max_steps=-1", *FIT[2:], *SGD, f"--model.schedule={schedule}"]
    command(*fit, "--trainer.max_epochs=1", "--run=runs/x")
    command(*fit, "--trainer.max_epochs=3", "--run=runs/x", "--ckpt_path=last")
    command(*fit, "--trainer.max_epochs=3", "--run=runs/unbroken")
    assert rates("runs/x") == rates("runs/unbroken")[2:]


def test_a_training_goes_on_with_its_schedule(command: Command, capsys: pytest.CaptureFixture) -> None:
    often = ["--checkpoint.every_n_train_steps=1", "--checkpoint.save_top_k=-1", "--checkpoint.filename={step}"]
    command("fit", "demo/qgnet.yaml", "--run=runs/whole", *FIT, *SGD, *COSINE, *often, "--checkpoint.monitor=null")
    go_on = ["fit", "demo/qgnet.yaml", *FIT, *SGD, "--ckpt_path=runs/whole/checkpoints/step=2.ckpt"]
    command(*go_on, *COSINE, "--run=runs/second")
    assert rates("runs/second") == rates("runs/whole")[2:]
    for name, other in {"a": ["--model.schedule=cosine"], "b": [COSINE[0], "--model.schedule.T_max=5"]}.items():
        with pytest.raises(SystemExit):
            command(*go_on, *other, f"--run=runs/{name}")
        assert "was CosineAnnealingLR(T_max=4" in capsys.readouterr().err
