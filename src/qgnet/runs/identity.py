"""What a run is, in a file that is written at its start. A lock beside it shows that the run has not ended."""

import json
import os
import secrets
import time
from pathlib import Path
from typing import Any, TextIO

from datamodules.files.writing import atomic_write, remove_parts
from qgnet.common.errors import InputError
from qgnet.common.locks import hold
from qgnet.common.terminal import is_first

RUN_FILE = "run.json"
CHECKPOINTS = "checkpoints"
LOCK = ".lock"
"""Held by a process of the run until it ends."""
JOB = "QGNET_JOB"
"""Environment variable by which the processes that Lightning starts know whose they are."""
WRITING = 2.0
"""Seconds to wait for what another process has begun to write."""


def job_name() -> str:
    """A name that all processes of one command share, and no other command has at the same time."""
    env = os.environ.get
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return f"torchrun {env('TORCHELASTIC_RUN_ID')} {env('MASTER_ADDR')}:{env('MASTER_PORT')}"
    if int(env("SLURM_NTASKS", "1")) > 1:
        return f"slurm {env('SLURM_JOB_ID')}.{env('SLURM_STEP_ID')}"
    if "LOCAL_RANK" not in os.environ or JOB not in os.environ:  # not started by another process of the command
        os.environ[JOB] = secrets.token_hex(8)
    return os.environ[JOB]


class Identity:
    """What a run is.

    Args:
        facts: ``experiment``, ``subcommand``, ``fold``, ``shots``, ``data_seed``, ``seed`` and ``checkpoint``.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts | {"job": job_name()}
        self.lock: TextIO | None = None
        self.written: Path | None = None
        self.made: list[Path] = []
        """Folders that were not there before, the inner ones first."""

    def claim(self, folder: Path) -> bool:
        """Write the file into a folder without a run; whether the folder now is this command's.

        A folder of a run that was killed before it started is free. InputError if the folder cannot be written to.
        """
        try:
            missing = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            self.lock = hold(folder / LOCK)
            if self.lock is None:
                return self._is_of_this_job(folder)
            if (folder / "config.yaml").exists():
                self.end()
                return False
            with atomic_write(folder / RUN_FILE) as part:
                part.write_text(json.dumps(self.facts, indent=2), encoding="utf-8")
            self.written, self.made = folder, missing
        except FileExistsError:
            raise InputError(f"{folder} is a file; a run needs a folder. Choose another with --run.") from None
        except OSError as error:
            raise InputError(f"{folder} cannot be written to: {error.strerror}. Choose another with --run.") from None
        return True

    def _is_of_this_job(self, folder: Path) -> bool:
        """Whether who holds the folder is another process of this command, which may be about to write who it is."""
        stop = time.monotonic() + WRITING
        while (read_identity(folder) or {}).get("job") != self.facts["job"]:
            if time.monotonic() > stop:
                return False
            time.sleep(0.02)
        return True

    def resume(self, folder: Path) -> None:
        """Take the folder of a training to resume; only the first of several processes does.

        Raises:
            InputError: if that training still runs.
        """
        if not is_first() or int(os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))):
            return
        self.lock = hold(folder / LOCK)
        if self.lock is None:
            raise InputError(f"{folder} is being trained by another process. Wait for its end, or stop it.")
        remove_parts(folder / CHECKPOINTS)

    def end(self) -> None:
        """Let others resume the run."""
        if self.lock is not None:
            self.lock.close()
            self.lock = None

    def release(self) -> None:
        """Give up a folder in which nothing was started."""
        self.end()
        if self.written is None or (self.written / "config.yaml").exists():
            return
        for name in (RUN_FILE, LOCK):
            (self.written / name).unlink(missing_ok=True)
        for path in self.made:
            if any(path.iterdir()):
                break
            path.rmdir()


def read_identity(folder: Path) -> dict[str, Any] | None:
    """What the run in a folder is; None for old runs without such a file."""
    try:
        facts = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None
