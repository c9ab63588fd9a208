"""Trainings of the demo killed at random moments and gone on with: the losses must be those of unbroken ones.

python benchmarks/resume_kills.py --kills 40
"""

import argparse
import csv
import random
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import cycle, product
from pathlib import Path

CONFIGS = Path(__file__).resolve().parent.parent / "lightning_configs/demo"
ENCODER = ["--model.encoder=test_resnet", "--model.encoder_weights=random", "--trainer.accelerator=cpu"]
STAGES = {
    "pretrain": ["--data.scenes=40", "--data.held_out=4", "--data.batch_size=4", "--model.queue_size=8"],
    "qgnet": [
        *("--data.scenes=400", "--data.train_episodes=24", "--data.batch_size=2", "--data.episodes=4"),
        *("--data.image_size=65", "--data.min_class_area=50", "--model.width=8", "--model.levels=[1,0.5]"),
        *("--model.prior_encoder=test_resnet", "--model.prior_checkpoint=random"),
    ],
}
LENGTHS = ["--trainer.max_epochs=12", "--trainer.max_steps=72"]
PER_EPOCH = ["--trainer.limit_train_batches=6", "--trainer.log_every_n_steps=1", "--trainer.enable_progress_bar=false"]
SAVE = ["--checkpoint.every_n_train_steps=2", "--checkpoint.monitor=null", "--checkpoint.filename=inside"]


def main() -> None:
    """Kill, go on, compare; exit code 1 if any loss differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    moments, wrong = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        kinds = cycle(product(STAGES, (0, 2), LENGTHS))
        unbroken: dict[tuple[str, int, str], Path] = {}
        for number in range(options.kills):
            kind = next(kinds)
            if kind not in unbroken:
                unbroken[kind] = Path(folder) / f"unbroken{len(unbroken)}"
                subprocess.run(command(*kind, unbroken[kind]), check=True, capture_output=True)
            steps, same = killed(kind, Path(folder) / "killed", unbroken[kind], moments)
            wrong += not same
            print(
                f"{number + 1}: {' '.join(map(str, kind))} from step {steps}: {'same' if same else 'OTHER'}", flush=True
            )
    print(f"{options.kills - wrong} of {options.kills} went on exactly")
    sys.exit(bool(wrong))


def command(stage: str, workers: int, length: str, run: Path) -> list[str]:
    """A training of one kind into a folder."""
    settings = [*ENCODER, *STAGES[stage], *PER_EPOCH, *SAVE, length, f"--data.num_workers={workers}", f"--run={run}"]
    start = ["-c", "from qgnet.start import lightning; lightning()"]
    return [sys.executable, *start, "fit", f"--config={CONFIGS / stage}.yaml", *settings]


def killed(kind: tuple[str, int, str], run: Path, unbroken: Path, moments: random.Random) -> tuple[int, bool]:
    """Kill a training after its first checkpoint, go on from its newest one; the step, and whether losses are equal."""
    shutil.rmtree(run, ignore_errors=True)
    process = subprocess.Popen(command(*kind, run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(run.glob("checkpoints/*.ckpt")) and process.poll() is None:
        time.sleep(0.02)
    time.sleep(moments.uniform(0, 3))
    process.kill()
    process.wait()
    newest = max(run.glob("checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime)
    (run / "metrics.csv").unlink(missing_ok=True)
    subprocess.run([*command(*kind, run), f"--ckpt_path={newest}"], check=True, capture_output=True)
    expected, found = losses(unbroken), losses(run)
    return len(expected) - len(found), found == expected[len(expected) - len(found) :]


def losses(run: Path) -> list[str]:
    """Of each step since the run was started or gone on with."""
    file = run / "metrics.csv"
    if not file.exists():  # killed after its last step
        return []
    with open(file) as stream:
        return [row["train/loss"] for row in csv.DictReader(stream) if row.get("train/loss")]


if __name__ == "__main__":
    main()
