"""What a run is, in a file of its own from the start; the file's exclusive creation also claims the folder."""

import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

from qgnet.common.errors import InputError

RUN_FILE = "run.json"
JOB = "QGNET_JOB"
"""Environment variable by which the processes that Lightning starts know whose they are."""
WRITING = 2.0
"""Seconds to wait for a file that another process has begun to write."""


def job_name() -> str:
    """A name that all processes of one command share, and no other command has at the same time."""
    known = os.environ.get
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return f"torchrun {known('TORCHELASTIC_RUN_ID')} {known('MASTER_ADDR')}:{known('MASTER_PORT')}"
    if int(known("SLURM_NTASKS", "1")) > 1:
        return f"slurm {known('SLURM_JOB_ID')}.{known('SLURM_STEP_ID')}"
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
        self.written: Path | None = None
        self.made: list[Path] = []
        """Folders that were not there before, the inner ones first."""

    def claim(self, folder: Path) -> bool:
        """Write the file into a folder unless there is one; whether the folder now is this command's.

        Raises:
            InputError: if the folder cannot be written to.
        """
        try:
            missing = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            with open(folder / RUN_FILE, "x", encoding="utf-8") as file:
                json.dump(self.facts, file, indent=2)
            self.written, self.made = folder, missing
        except FileExistsError:
            if not folder.is_dir():
                raise InputError(f"{folder} is a file; a run needs a folder. Choose another with --run.") from None
            return (read_identity(folder) or {}).get("job") == self.facts["job"]
        except OSError as error:
            raise InputError(f"{folder} cannot be written to: {error.strerror}. Choose another with --run.") from None
        return True

    def release(self) -> None:
        """Give up a folder in which nothing was begun."""
        if self.written is None or (self.written / "config.yaml").exists():
            return
        (self.written / RUN_FILE).unlink(missing_ok=True)
        for path in self.made:
            if any(path.iterdir()):
                break
            path.rmdir()


def read_identity(folder: Path) -> dict[str, Any] | None:
    """What the run in a folder is; None for one of before there was such a file."""
    file = folder / RUN_FILE
    stop = time.monotonic() + WRITING
    while file.exists():
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
            return facts if isinstance(facts, dict) else None
        except ValueError:  # another process is still writing it
            if time.monotonic() > stop:
                return None
            time.sleep(0.02)
    return None
