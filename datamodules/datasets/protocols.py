"""The named protocols of few-shot segmentation and each of their choices.

Where two papers' numbers differ, the reason is usually one of these choices. Each is taken from the released code of
the method it is named after.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from datamodules.prepare.choices import CocoFolds
from qgnet.common.settings import NOT_EMPTY, Checked, Count, Range
from qgnet.common.terminal import warn

Novel = Literal["background", "ignore", "drop"]
Resize = Literal["pad", "squash"]
Score = Literal["original", "network"]
Supports = Literal["distinct", "repeated"]
Queries = Literal["images", "pairs"]
TrainingQueries = Literal["images", "classes"]
Boundary = Literal["ignore", "background"]


@dataclass(frozen=True)
class Protocol(metaclass=Checked):
    """A named protocol. A choice that is given replaces that of the name.

    Args:
        name: ``pfenet``, ``hsnet``, ``bam``, or this project's default ``qgnet``: PFENet's with 1,000 episodes.
        novel_in_training: novel classes in training images: ``background``; ``ignore`` excludes their pixels from
            the loss (RePRI); ``drop`` leaves out every image that shows one (BAM).
        resize: of test images: ``pad`` brings the long side to the network's and pads, ``squash`` makes a square.
        score_at: resolution of the score: ``original`` or ``network`` size.
        supports: ``distinct``, or ``repeated``: the same support may be drawn twice. The query is never a support.
        queries: of the test: ``images`` walks the images and draws one of the classes present, ``pairs`` walks the
            (image, class) pairs.
        training_queries: in training: ``images`` walks the images and draws one of the classes present, ``classes``
            draws a class, each as often, and then one of its images (HSNet).
        boundary_in_training: pixels labelled 255: ``ignore``, or ``background`` (HSNet; the score ignores them).
        coco_folds: ``interleaved`` (i + 1, i + 5, …) or ``contiguous`` (20 in a row).
        episodes: of a test on PASCAL-5i and on all but COCO-20i.
        coco_episodes: of a test on COCO-20i.
        seeds: with which results are reported; the first is the default seed.
    """

    prefix = "data.protocol"

    name: Literal["qgnet", "pfenet", "hsnet", "bam"] = "qgnet"
    novel_in_training: Novel | None = None
    resize: Resize | None = None
    score_at: Score | None = None
    supports: Supports | None = None
    queries: Queries | None = None
    training_queries: TrainingQueries | None = None
    boundary_in_training: Boundary | None = None
    coco_folds: CocoFolds | None = None
    episodes: Count | None = None
    coco_episodes: Count | None = None
    seeds: Annotated[tuple[int, ...], NOT_EMPTY, Range(0)] | None = None

    def resolved(self) -> "Protocol":
        """The protocol with every choice filled in."""
        given = {key: value for key, value in vars(self).items() if value is not None}
        return Protocol(**(PROTOCOLS[self.name] | given))


PFENET: dict[str, Any] = {
    "novel_in_training": "background",
    "resize": "pad",
    "score_at": "original",
    "supports": "distinct",
    "queries": "images",
    "training_queries": "images",
    "boundary_in_training": "ignore",
    "coco_folds": "interleaved",
    "episodes": 5000,
    "coco_episodes": 20000,
    "seeds": (321,),
}
PROTOCOLS: dict[str, dict[str, Any]] = {
    "qgnet": PFENET | {"episodes": 1000, "coco_episodes": 1000},
    "pfenet": PFENET,
    "hsnet": PFENET
    | {
        "resize": "squash",
        "score_at": "network",
        "supports": "repeated",
        "queries": "pairs",
        "training_queries": "classes",
        "boundary_in_training": "background",
        "episodes": 1000,
        "coco_episodes": 1000,
        "seeds": (0,),
    },
    "bam": PFENET
    | {"novel_in_training": "drop", "episodes": 1000, "coco_episodes": 4000, "seeds": (510, 365, 382, 322, 988)},
}


def warn_of_useless_choices(protocol: Protocol, choices: Sequence[str], where: str) -> None:
    """Warn of those of the choices that differ from the named protocol's own: the DataModule ``where`` uses none."""
    for choice in choices:
        value = getattr(protocol, choice)
        if value not in (None, PROTOCOLS[protocol.name][choice]):
            warn(f"data.protocol.{choice} {value} has no effect: {where} does not use it.")


def default_seed(protocol: Protocol) -> int:
    """The first of the protocol's seeds."""
    seeds = protocol.resolved().seeds
    assert seeds
    return seeds[0]
