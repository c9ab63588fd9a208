"""The content of the files of a session."""

from collections.abc import Set
from typing import Annotated
from unicodedata import category

from pydantic import BaseModel, Field, field_validator

from qgnet.inference.supports import OBJECT

MOST_CLASSES = 99
Number = Annotated[int, Field(ge=1, le=MOST_CLASSES)]
"""Number of a class in the masks."""
Probability = Annotated[float, Field(ge=0, le=1)]


class ClassEntry(BaseModel):
    """A class: its number in the masks, which never changes, and its name, which may change."""

    number: Number
    name: str = Field(min_length=1, max_length=60)

    @field_validator("name")
    @classmethod
    def one_line(cls, name: str) -> str:
        """Check that the name is one line of text: ``classes.txt`` has one line per class."""
        if not name.strip() or any(category(letter) in ("Cc", "Zl", "Zp") for letter in name):
            raise ValueError(f"the class name {name!r} is no line of text")
        return name


class Settings(BaseModel):
    """The user's settings: the classes in order, and class number → threshold for thresholds set by the user."""

    classes: list[ClassEntry] = Field(default=[ClassEntry(number=1, name=OBJECT)], min_length=1)
    thresholds: dict[Number, Annotated[float, Field(gt=0, lt=1)]] = {}

    @field_validator("classes")
    @classmethod
    def distinct(cls, classes: list[ClassEntry]) -> list[ClassEntry]:
        """Check that numbers and names are unique."""
        if len({c.number for c in classes}) < len(classes) or len({c.name for c in classes}) < len(classes):
            raise ValueError("two classes have one number or one name")
        return classes


class PaintedMask(BaseModel):
    """A painted mask: whether it is a support, and the numbers of the classes in it.

    A ``rough`` mask consists of strokes and tells nothing about unpainted pixels: its file has 0 for not painted and
    255 for background. The file of another mask has 0 for background and 255 for ignored.
    """

    support: bool
    classes: list[int]
    rough: bool = False


class Outcome(BaseModel):
    """The outcome of a run for an image, or the error if the image could not be read.

    Attributes:
        run: number of the run.
        scores: class number → score in [0, 1] that the image shows the class.
        thresholds: class number → threshold in [0, 1], chosen on the supports of the run.
        stamp: modification time of the image file when it was read, in nanoseconds.
        error: message; empty if the image could be read.
    """

    run: int = Field(default=0, ge=0)
    scores: dict[Number, Probability] = {}
    thresholds: dict[Number, Probability] = {}
    stamp: int
    error: str = ""

    def of(self, numbers: Set[int]) -> "Outcome":
        """The same outcome with only these classes."""
        scores, thresholds = ({n: v for n, v in of.items() if n in numbers} for of in (self.scores, self.thresholds))
        return self.model_copy(update={"scores": scores, "thresholds": thresholds})


class FittedClass(BaseModel):
    """What the last run learnt about a class: its threshold, and the IoU at which its supports segment each other."""

    threshold: Probability
    expected: Probability


class SessionState(BaseModel):
    """The session file.

    Attributes:
        settings: the user's settings.
        painted: image key → its painted mask.
        learnt: class number → what the last run learnt about it.
        run: number of the last run that was started.
        titles: key of a dropped image → its name on the user's machine.
    """

    settings: Settings = Settings()
    painted: dict[str, PaintedMask] = {}
    learnt: dict[Number, FittedClass] = {}
    run: int = Field(default=0, ge=0)
    titles: dict[str, str] = {}
