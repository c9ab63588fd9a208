"""Which exceptions are a user's mistake, and their messages."""
# ruff: noqa: PLC0415  (a mistake is reported at once, without what takes seconds to import)

import errno
import re
import traceback

from qgnet.common.errors import InputError

LOST = re.compile("closed by peer|reset by peer|Broken pipe|remote process exited", re.IGNORECASE)
"""What gloo and NCCL say on losing a process."""
PLACES = {
    errno.EACCES: "may not be used",
    errno.EPERM: "may not be used",
    errno.EROFS: "lies where nothing can be written",
    errno.ENOSPC: "does not fit on its disk",
    errno.EDQUOT: "does not fit into your quota",
    errno.ENOTDIR: "lies below something that is not a folder",
    errno.EISDIR: "is a folder; expected a file",
    errno.EEXIST: "is a file; expected a folder",
    errno.ENAMETOOLONG: "has too long a name",
}
"""Errors of the operating system that only another path, another disk or other permissions can fix."""
OWN_WORDS = ("pytorch_lightning", "lightning_fabric", "lightning_utilities")
"""Packages whose exceptions while a Trainer is created concern its settings."""
REFUSED_CLASS = re.compile(r"Problem with given class_path '([^']+)':\n\s*(.+)")
"""How jsonargparse reports an error in the constructor of a callback or logger."""


def users_mistake(error: BaseException | None) -> InputError | None:
    """The InputError that caused an exception or replaces it; None for a fault of this program.

    Errors of Lightning and torch about a Trainer that this machine cannot run count as mistakes too.
    """
    while error is not None:  # jsonargparse wraps what a constructor raises
        if isinstance(error, InputError):
            return error
        message = of_place(error) or of_settings(error) or of_processes(error)
        if message:
            return InputError(message)
        error = error.__cause__ or error.__context__
    return None


def of_settings(error: BaseException) -> str | None:
    """Settings that Lightning refuses: too many devices, a metric that is not logged, a logger without its library."""
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    if isinstance(error, MisconfigurationException):
        part = "checkpoint" if raised_in(error).endswith("model_checkpoint") else "trainer"
        return f"{error} Correct the --{part}.* settings."
    if isinstance(error, ValueError) and raised_in(error).startswith("pytorch_lightning.loops."):
        return f"{str(error).strip()} Correct the --trainer.* settings."
    if isinstance(error, RuntimeError) and raised_in(error).startswith("pytorch_lightning.callbacks."):
        return f"{error} Correct the settings of this callback."
    refused = REFUSED_CLASS.search(str(error)) if isinstance(error, ValueError) else None
    return refused and f"{refused[1]} cannot be made: {refused[2]} Correct its settings, or leave it out."


def of_processes(error: BaseException) -> str | None:
    """Several processes that cannot reach each other, or lost each other."""
    from torch.distributed import DistNetworkError

    if isinstance(error, DistNetworkError):
        return (
            f"The processes could not find each other: {error} If the port is taken, choose another: "
            "MASTER_PORT=29511 lightning …"
        )
    if isinstance(error, RuntimeError) and LOST.search(str(error)):
        return (
            f"Another process of this run has ended, and this one cannot go on: {error} Its message says why. "
            "What was saved is whole; go on with --ckpt_path last."
        )
    return None


def of_place(error: BaseException) -> str | None:
    """A path that cannot be read from or written to."""
    if not isinstance(error, OSError) or error.errno not in PLACES or error.filename is None:
        return None
    return f"{error.filename} {PLACES[error.errno]} ({error.strerror}). Choose another place, or mend it."


def refused_by_lightning(error: Exception) -> bool:
    """Whether Lightning itself raised an exception, not code that it called."""
    return raised_in(error).startswith(OWN_WORDS)


def raised_in(error: BaseException) -> str:
    """Name of the module that raised."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__", "")) if frames else ""
