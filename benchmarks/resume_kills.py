"""Trainings of the demo killed at random moments and gone on with: the losses must be those of unbroken ones.

Every training is a process of its own, forked from one that has imported everything.

python benchmarks/resume_kills.py --kills 40
"""

import argparse
import contextlib
import csv
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import torch

from qgnet.cli import main as lightning

CONFIGS = Path(__file__).resolve().parent.parent / "lightning_configs/demo"
TINY = ["--model.encoder=test_resnet", "--model.encoder_weights=random", "--trainer.accelerator=cpu"]
STAGES = {
    "pretrain": [
        *("--data.scenes=40", "--data.held_out=2", "--data.batch_size=2", "--data.region_cache=null"),
        *("--data.global_size=48", "--data.map_size=65", "--model.queue_size=8"),
    ],
    "qgnet": [
        *("--data.scenes=160", "--data.train_episodes=12", "--data.batch_size=2", "--data.episodes=2"),
        *("--data.image_size=65", "--data.min_class_area=50", "--model.width=8", "--model.levels=[1,0.5]"),
        *("--model.prior_encoder=test_resnet", "--model.prior_weights=random"),
    ],
}
PER_EPOCH, EPOCHS = 6, 8
LENGTHS = {
    "max_epochs": [f"--trainer.max_epochs={EPOCHS}"],
    "max_steps": ["--trainer.max_epochs=-1", f"--trainer.max_steps={EPOCHS * PER_EPOCH}"],
}
ALIKE = [
    *(f"--trainer.limit_train_batches={PER_EPOCH}", "--trainer.limit_val_batches=1"),
    *("--trainer.num_sanity_val_steps=0", "--trainer.log_every_n_steps=1", "--trainer.enable_progress_bar=false"),
    *("--checkpoint.every_n_train_steps=2", "--checkpoint.monitor=null", "--checkpoint.filename=inside"),
]
Kind = tuple[str, int, str]
"""Stage, loader processes, and what ends the training."""


def main() -> None:
    """Kill, go on, compare; exit code 1 if any loss differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    moments, wrong = random.Random(options.seed), 0
    kinds = list(product(STAGES, (0, 2), LENGTHS))
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "killed"
        for index, kind in enumerate(kinds):
            unbroken = Path(folder) / f"unbroken{index}"
            begun = time.monotonic()
            assert finished(kind, unbroken)
            seconds = time.monotonic() - begun
            expected = losses(unbroken)
            for number in range(index, options.kills, len(kinds)):
                kill_inside(kind, run, seconds, moments)
                newest = newest_checkpoint(run)
                (run / "metrics.csv").unlink(missing_ok=True)
                found = losses(run) if finished(kind, run, newest) else []
                step = len(expected) - len(found)
                same = bool(found) and found == expected[step:]
                wrong += not same
                at = f"from {newest.name} after step {step}" if found else "did not go on"
                print(f"{number + 1}: {' '.join(map(str, kind))} {at}: {'same' if same else 'OTHER'}", flush=True)
    print(f"{options.kills - wrong} of {options.kills} went on exactly")
    sys.exit(bool(wrong))


def train(kind: Kind, run: Path, checkpoint: Path | None) -> None:
    """In a forked process: a group of its own, so that its loader processes can be killed with it."""
    os.setpgrp()
    stage, workers, length = kind
    settings = [*TINY, *STAGES[stage], *ALIKE, *LENGTHS[length], f"--data.num_workers={workers}", f"--run={run}"]
    settings += [f"--ckpt_path={checkpoint}"] if checkpoint else []
    with open(f"{run}.log", "a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        lightning(["fit", f"--config={CONFIGS / stage}.yaml", *settings])


def started(kind: Kind, run: Path, checkpoint: Path | None = None) -> multiprocessing.Process:
    """A training of one kind into a folder."""
    process = multiprocessing.get_context("fork").Process(target=train, args=(kind, run, checkpoint))
    process.start()
    return process  # type: ignore[return-value]


def finished(kind: Kind, run: Path, checkpoint: Path | None = None) -> bool:
    """Train to the end; whether it ended well."""
    process = started(kind, run, checkpoint)
    process.join()
    if process.exitcode:
        print(Path(f"{run}.log").read_text()[-3000:], file=sys.stderr)
    return not process.exitcode


def kill_inside(kind: Kind, run: Path, seconds: float, moments: random.Random) -> None:
    """SIGKILL a new training between its first checkpoint and its last step."""
    while True:
        shutil.rmtree(run, ignore_errors=True)
        process = started(kind, run)
        while not list(run.glob("checkpoints/*.ckpt")) and process.is_alive():
            time.sleep(0.02)
        process.join(moments.uniform(0, seconds))
        if process.is_alive():
            assert process.pid is not None
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
            if torch.load(newest_checkpoint(run), weights_only=True)["global_step"] < EPOCHS * PER_EPOCH:
                return


def newest_checkpoint(run: Path) -> Path:
    """Of an epoch's end or of every second step."""
    return max(run.glob("checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime)


def losses(run: Path) -> list[str]:
    """Of each step since the run was started or gone on with."""
    with open(run / "metrics.csv") as stream:
        return [row["train/loss"] for row in csv.DictReader(stream) if row.get("train/loss")]


if __name__ == "__main__":
    main()
