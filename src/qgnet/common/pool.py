"""Work on many images in several processes."""
# ruff: noqa: PLC0415  (what starts no process waits for no multiprocessing, and what only starts some for no OpenCV)

import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from qgnet.common.progress import progress

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

Result = TypeVar("Result")
GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")

_job: Callable[[Sequence[int]], Any] | None
"""What :func:`in_parts` does in this process; handed over once, not with each part."""


def in_parts(
    job: Callable[[Sequence[int]], Result], numbers: Sequence[int], part: int, title: str, unit: str
) -> Iterator[Result]:
    """The results of ``job`` for each part of the numbers, in order, computed in processes, with a progress bar.

    Save each result as it arrives to resume from there after an interruption.

    Args:
        job: gets the numbers of a part.
        numbers: of what is worked on.
        part: so many numbers at once.
        title: of the progress bar.
        unit: what a number stands for, in the progress bar.
    """
    parts = [numbers[start : start + part] for start in range(0, len(numbers), part)]
    with processes(job) as pool, progress(numbers, title, unit=unit, leave=False) as bar:
        results = pool.map(_do, parts) if len(parts) > 1 else map(job, parts)
        for some, result in zip(parts, results, strict=True):
            yield result
            bar.update(len(some))


def processes(job: Callable[[Sequence[int]], Any] | None = None) -> "ProcessPoolExecutor":
    """One process per core for a job. They end when this process ends, in whatever way."""
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor(cores(), initializer=_begin, initargs=(job,))


def cores() -> int:
    """Number of cores that this job may use, by its affinity and its control group (container)."""
    try:
        granted = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no such thing
        granted = os.cpu_count() or 1
    for folder in group_folders():
        granted = min(granted, math.ceil(min(quota(folder), granted)))
    return max(1, granted)


def group_folders() -> list[Path]:
    """The control group of this process and those above it, of both versions of Linux's control groups."""
    folders = [GROUPS, GROUPS / "cpu"]
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:
        return folders
    for line in lines:  # e.g. 0::/system.slice/job.service, or 4:cpu,cpuacct:/job
        _, controllers, path = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            base = GROUPS / "cpu" if controllers else GROUPS
            own = base / path.lstrip("/")
            folders += [own, *(above for above in own.parents if above.is_relative_to(base))]
    return folders


def quota(folder: Path) -> float:
    """Number of cores that a control group grants; infinite without a limit."""
    try:
        if (folder / "cpu.max").exists():
            most, period = (folder / "cpu.max").read_text().split()
        else:
            most, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    except OSError:
        return math.inf
    return math.inf if most in ("max", "-1") else int(most) / int(period)


def _begin(job: Callable[[Sequence[int]], Any] | None) -> None:
    global _job  # noqa: PLW0603  (one per process)
    _job = job
    import signal

    import cv2

    cv2.setNumThreads(0)  # the processes are the parallelism
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the first process, which ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _do(numbers: Sequence[int]) -> Any:
    assert _job is not None
    return _job(numbers)


def _end_with_parent() -> None:
    import multiprocessing

    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
