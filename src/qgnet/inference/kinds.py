"""The kind of a model, which names the task of its network in files."""

from importlib import import_module

from qgnet.common.errors import InputError
from qgnet.inference.model_names import MATCHING
from qgnet.inference.validation import Field
from qgnet.tasks.episodic import EpisodicTask, import_path
from qgnet.tasks.heads import DCAMASegmentation, HSNetSegmentation
from qgnet.tasks.matching import SupportMatching
from qgnet.tasks.score_maps import ScoreMapSegmentation
from qgnet.tasks.segmentation import FewShotSegmentation

QGNET = "qgnet"
TASKS: dict[str, type[EpisodicTask]] = {
    MATCHING: SupportMatching,
    QGNET: FewShotSegmentation,
    "score-maps": ScoreMapSegmentation,
    "hsnet": HSNetSegmentation,
    "dcama": DCAMASegmentation,
}
"""Kind → its task. The kind of any other task is its import path."""
KIND = Field(
    f"one of {', '.join(TASKS)}, or the import path of an EpisodicTask",
    lambda kind: isinstance(kind, str) and (kind in TASKS or "." in kind),
)


def kind_of(task: type[EpisodicTask]) -> str:
    """The kind of a task's networks."""
    return next((kind for kind, known in TASKS.items() if known is task), import_path(task))


def task_of(kind: str) -> type[EpisodicTask]:
    """The task of a kind; the user's own task is imported by its path.

    Raises:
        InputError: if it cannot be imported, or is not an :class:`EpisodicTask`.
    """
    if kind in TASKS:
        return TASKS[kind]
    module, _, name = kind.rpartition(".")
    try:
        task = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"The task {kind} cannot be imported ({error}). Install its package, or add its folder to PYTHONPATH."
        ) from None
    if not (isinstance(task, type) and issubclass(task, EpisodicTask)):
        raise InputError(f"{kind} is no task over episodes (no subclass of qgnet.tasks.episodic.EpisodicTask).")
    return task
