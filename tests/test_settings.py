"""Settings are declared once, with what they may be; what does not fit is refused by name, however it is given."""

import contextlib
import io
import json
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from conftest import CONFIGS, EPISODIC, TINY_PRETRAINING, TINY_SCENES, TINY_TRAINER
from hypothesis import Phase, given
from hypothesis import settings as how
from hypothesis import strategies as st

from datamodules import (
    Coco20i,
    Coco20iDataModule,
    EpisodeDataset,
    FolderDataModule,
    Fss1000DataModule,
    LabelledDataset,
    Pascal5i,
    Pascal5iDataModule,
    Synthetic,
    SyntheticDataModule,
    SyntheticViewsDataModule,
    UnlabeledDataModule,
)
from datamodules.datasets.protocols import Protocol
from datamodules.episodic import EpisodeDataModule
from datamodules.unlabeled import ViewDataModule
from datamodules.views.dataset import Augmentation
from datamodules.views.regions import Method
from qgnet.cli import main
from qgnet.common.errors import InputError
from qgnet.common.settings import declared
from qgnet.config.command_line import CommandLine
from qgnet.tasks.pretraining import GlobalLocalPretraining
from qgnet.tasks.segmentation import FewShotSegmentation

DRAWS = int(os.environ.get("QGNET_DRAWS", "15"))
"""Of each command; ``QGNET_DRAWS=2000 pytest tests/test_settings.py -k draw`` looks longer."""
STAGE_1 = [f"--config={CONFIGS / 'demo/pretrain.yaml'}", *TINY_TRAINER, *TINY_PRETRAINING, *TINY_SCENES]
STAGES = {1: STAGE_1, 2: EPISODIC}
ONE_BATCH = [f"--trainer.limit_{part}_batches=1" for part in ("train", "val", "test", "predict")]
SMALL = {1: [*ONE_BATCH, "--data.scenes=24"], 2: [*ONE_BATCH, "--data.scenes=80", "--data.episodes=2"]}
REFUSED = [
    (2, "data.image_size", -7, "expected a whole number of pixels, 1 … 4097."),
    (2, "data.image_size", 64, "Take 57 or 65"),
    (2, "data.image_size", 8000001, "expected a whole number of pixels, 1 … 4097."),
    (2, "data.episodes", -5, "expected at least 1"),
    (2, "data.train_episodes", -3, "expected at least 1"),
    (2, "data.min_class_area", 0, "expected at least 1"),
    (2, "data.scale", [-1, 1], "expected 0.1 … 10"),
    (2, "data.scale", [2, 1], "expected the smaller number first"),
    (2, "data.scale", [float("nan"), 1], "expected 0.1 … 10"),
    (2, "data.negative", None, "expected a value"),
    (2, "data.negative", 1.5, "expected 0 … 1"),
    (2, "data.inverted", -0.5, "expected 0 … 1"),
    (2, "data.protocol.episodes", 0, "expected at least 1"),
    (2, "data.protocol.seeds", [], "expected at least one entry"),
    (2, "model.width", 0, "expected at least 1"),
    (2, "model.levels", [], "expected at least one entry"),
    (2, "model.levels", [-1], "expected whole sides above 1"),
    (2, "model.levels", [1.5], "expected whole sides above 1"),
    (2, "model.high_stage", 5, "expected 3 … 4"),
    (2, "model.foreground_weight", -1, "expected at least 0"),
    (2, "model.auxiliary_weight", float("inf"), "expected a finite number"),
    (2, "model.optimizer.lr", -1, "Invalid learning rate"),
    (2, "model.optimizer.lr", float("inf"), "expected a finite number"),
    (2, "seed_everything", -1, "expected 0 … 4294967295"),
    (2, "trainer.accumulate_grad_batches", 0, "expected at least 1"),
    (2, "trainer.check_val_every_n_epoch", 0, "expected at least 1"),
    (2, "trainer.gradient_clip_val", float("nan"), "expected at least 0"),
    (1, "data.seed", None, "expected a value"),
    (1, "data.global_size", 0, "expected 16 … 4097"),
    (1, "data.map_size", 64, "Take 57 or 65"),
    (1, "data.region_count", 0, "expected 1 … 255"),
    (1, "data.held_out", 0, "expected at least 1"),
    (1, "data.patches.margin", float("nan"), "expected 0 … 10"),
    (1, "data.augmentation.hue", 0.6, "expected 0 … 0.5"),
    (1, "model.temperature", 0, "expected more than 0"),
    (1, "model.global_global", float("nan"), "expected at least 0"),
    (1, "model.queue_size", 0, "expected at least 1"),
]


def as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()


def nested(name: str, value: Any) -> dict:
    """``model.width`` → what a YAML says of it."""
    keys = name.split(".")
    if keys[0] in ("model", "data"):
        keys.insert(1, "init_args")
    if "optimizer" in keys:
        keys.insert(keys.index("optimizer") + 1, "init_args")
    for key in reversed(keys):
        value = {key: value}
    return value


@pytest.mark.parametrize(("stage", "name", "value", "message"), REFUSED)
@pytest.mark.parametrize("way", ["command line", "YAML"])
def test_a_setting_out_of_range_is_refused_by_name(
    workdir: Path, capsys: pytest.CaptureFixture, stage: int, name: str, value: Any, message: str, way: str
) -> None:
    if way == "YAML":
        Path("x.yaml").write_text(yaml.safe_dump(nested(name, value)))
    setting = "--config=x.yaml" if way == "YAML" else f"--{name}={as_yaml(value)}"
    without = [a for a in STAGES[stage] if not a.startswith(f"--{name}=")]
    with pytest.raises(SystemExit) as stop:
        main(["fit", *without, setting])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert f"error: {name.removesuffix('.lr')}" in error
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pascal5iDataModule(image_size=-7), "data.image_size is -7"),
        (lambda: Pascal5iDataModule("root", shots=0), "data.shots is 0"),
        (lambda: Coco20iDataModule(image_size=640.5), "expected a whole number of pixels"),
        (lambda: Coco20iDataModule(year=2016), "data.year is 2016; expected one of 2014, 2017"),
        (lambda: SyntheticDataModule(scale=(1.0, float("inf"))), "data.scale"),
        (lambda: UnlabeledDataModule(regions="voronoi"), "expected one of slic, felzenszwalb, grid, random"),
        (
            lambda: EpisodeDataModule(0),
            "data.dataset is 0; expected a DatasetSpec",
        ),
        (lambda: EpisodeDataset(Synthetic(), shots=0), "data.shots is 0; expected at least 1"),
        (lambda: EpisodeDataset(Synthetic(), image_size=0), "data.image_size is 0"),
        (lambda: EpisodeDataset(Synthetic(), split="test"), "data.split is 'test'; expected one of train, val"),
        (lambda: LabelledDataset(Synthetic(), split="test"), "data.split is 'test'"),
        (lambda: EpisodeDataset(Pascal5i("nowhere")), "nowhere does not exist. Expected the VOC layout"),
        (lambda: Coco20i(year=2015), "year is 2015; expected one of 2014, 2017"),
        (lambda: Synthetic(scenes=0), "scenes is 0; expected at least 1"),
        (lambda: Protocol(episodes=0), "data.protocol.episodes is 0"),
        (lambda: Augmentation(hue=float("nan")), "data.augmentation.hue is nan"),
        (lambda: FewShotSegmentation(width=0), "model.width is 0"),
        (lambda: GlobalLocalPretraining(schedule="linear"), "model.schedule is 'linear'"),
    ],
)
def test_the_same_in_python(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError) as error:
        make()
    assert message in str(error.value)


EPISODES = (Coco20iDataModule, FolderDataModule, Fss1000DataModule, Pascal5iDataModule, SyntheticDataModule)
VIEWS = (SyntheticViewsDataModule, UnlabeledDataModule)


@pytest.mark.parametrize("module", [*EPISODES, *VIEWS])
def test_every_datamodule_takes_the_settings_of_its_kind_and_no_others(
    workdir: Path, capsys: pytest.CaptureFixture, module: type
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["fit", f"--data.help={module.__name__}"])
    printed = capsys.readouterr().out
    base = EpisodeDataModule if module in EPISODES else ViewDataModule
    for name in set(declared(base)) - {"return", "protocol", "patches", "augmentation", "dataset"}:
        assert f"--data.{name} " in printed, name
    assert "at least 1" in " ".join(printed.split())  # the help may wrap there
    with pytest.raises(SystemExit, match="2"):
        main(["fit", f"--data={module.__name__}", "--data.folds=1", "--model=FewShotSegmentation"])
    assert "'folds' is not accepted" in capsys.readouterr().err
    with pytest.raises(TypeError, match="folds"):
        module(folds=1)


WELL, REFUSAL = "well", "refused"
"""How a command may end."""
NUMBERS = st.one_of(
    st.integers(-3, 40),
    st.floats(-2, 12, width=16),
    st.sampled_from([0, -1, 0.5, 65, 97, 2**33, float("nan"), float("inf"), -float("inf"), 1e-300]),
)
VALUES = st.one_of(
    NUMBERS, st.lists(NUMBERS, max_size=3), st.none(), st.booleans(), st.text("aä=,:[{'\"#-0", max_size=4)
)
SETTINGS = {
    1: {
        "data": "seed global_size local_size region_count held_out map_size patches.min_area patches.margin regions "
        "patches.choice augmentation.view_area augmentation.view_aspect augmentation.brightness augmentation.hue "
        "augmentation.contrast augmentation.saturation augmentation.grey_probability augmentation.jitter_probability "
        "augmentation.blur_sigma augmentation.blur_probability augmentation.flip_probability batch_size scene_size",
        "model": "high_stage dim queue_size momentum temperature global_global local_global local_local schedule "
        "optimizer.lr optimizer.weight_decay encoder encoder_weights",
    },
    2: {
        "data": "fold shots seed episodes batch_size image_size min_class_area scale train_episodes negative inverted "
        "episode_file protocol.name protocol.resize protocol.supports protocol.queries protocol.episodes "
        "protocol.seeds protocol.score_at protocol.novel_in_training",
        "model": "high_stage width levels score_maps add_to_score_maps auxiliary_weight foreground_weight bank_size "
        "self_correspondence cross_correspondence freeze_encoder optimizer.lr optimizer.weight_decay prior_bank "
        "prior_weights encoder prior_encoder encoder_weights",
    },
}
# without devices and num_nodes, which start processes by the command line of this test
TRAINER = "accumulate_grad_batches check_val_every_n_epoch val_check_interval log_every_n_steps num_sanity_val_steps "
TRAINER += "gradient_clip_val limit_train_batches limit_val_batches limit_test_batches max_epochs max_steps precision "
TRAINER += "overfit_batches deterministic benchmark gradient_clip_algorithm"
NAMES = {
    stage: [f"{part}.{name}" for part, names in parts.items() for name in names.split()]
    + [f"trainer.{name}" for name in TRAINER.split()]
    + ["seed_everything", "checkpoint.save_top_k", "checkpoint.every_n_epochs", "checkpoint.mode"]
    for stage, parts in SETTINGS.items()
}
WORDS = [
    *get_args(Method),
    "ridge",
    "sum",
    "hsnet",
    "bam",
    "squash",
    "repeated",
    "pairs",
    "network",
    "ignore",
    "cosine",
]
WORDS += ["one_region", "bf16-mixed", "random", "norm"]


@st.composite
def draws(draw: st.DrawFn) -> tuple[int, dict[str, Any]]:
    """A stage, and one to three settings of it with any values."""
    stage = draw(st.sampled_from([1, 2]))
    names = draw(st.lists(st.sampled_from(NAMES[stage]), min_size=1, max_size=3, unique=True))
    return stage, {n: draw(VALUES | st.sampled_from(WORDS)) for n in names}


@pytest.fixture
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("subcommand", ["fit", "validate", "test", "predict"])
def test_every_draw_works_or_is_refused(workdir: Path, quiet: None, subcommand: str) -> None:
    """No traceback: a message and exit code 2, or a run that ends well."""

    endings: Counter[str] = Counter()

    @how(max_examples=DRAWS, phases=[Phase.generate], deadline=None, derandomize=True, database=None)
    @given(drawn=draws())
    def looks(drawn: tuple[int, dict[str, Any]]) -> None:
        stage, chosen = drawn
        arguments = [f"--{name}={as_yaml(value)}" for name, value in chosen.items()]
        ending = ended([subcommand, *STAGES[stage], *SMALL[stage], *arguments])
        endings[ending] += 1
        if ending not in (WELL, REFUSAL):  # go on: one look finds all faults
            print(f"{subcommand} {' '.join(arguments)}: {ending}", flush=True)
        shutil.rmtree("runs", ignore_errors=True)

    looks()
    print(f"{subcommand}: {endings[WELL]} ended well, {endings[REFUSAL]} were refused", flush=True)
    assert set(endings) <= {WELL, REFUSAL}, endings


def ended(arguments: list[str]) -> str:
    """`WELL`, `REFUSAL`, or what is wrong with the way in which a command ends."""
    error = io.StringIO()
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
        try:
            main(arguments)
        except SystemExit as stop:
            refused = stop.code == 2 and "error: " in error.getvalue()
            return REFUSAL if refused else f"{stop.code}: {error.getvalue()}"
        except Exception as fault:
            return f"{type(fault).__name__}: {fault}"
    return WELL


def test_a_validation_later_than_the_epochs_end(workdir: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["fit", *EPISODIC, "--trainer.val_check_interval=7"])
    assert "Correct the --trainer.* settings." in capsys.readouterr().err


LIMITS = [f"limit_{part}_batches" for part in ("train", "val", "test", "predict")]
LIMITS += ["overfit_batches", "val_check_interval"]


@pytest.mark.parametrize(("written", "expected"), [("1", int), ("1.0", float), ("0.5", float), ("2", int)])
@pytest.mark.parametrize("way", ["command line", "YAML"])
def test_a_whole_number_of_batches_is_no_share(workdir: Path, way: str, written: str, expected: type) -> None:
    Path("x.yaml").write_text("trainer:\n" + "".join(f"  {name}: {written}\n" for name in LIMITS))
    line = [f"--trainer.{name}={written}" for name in LIMITS]
    arguments = [argument for argument in EPISODIC if not argument.startswith("--trainer.limit_")]
    config = CommandLine("fit", [*arguments, *(["--config=x.yaml"] if way == "YAML" else line)]).config
    for name in LIMITS:
        assert config.trainer[name] == float(written)
        assert type(config.trainer[name]) is expected, name


def test_one_batch_is_tested_with_a_limit_of_one(workdir: Path) -> None:
    for limit, episodes in (("1", 2), ("1.0", 6)):
        main(["test", *EPISODIC, f"--trainer.limit_test_batches={limit}", f"--run=runs/{limit}"])
        assert json.loads(Path(f"runs/{limit}/results.json").read_text())["episodes"] == episodes
