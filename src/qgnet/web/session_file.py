"""What a session consists of, as its files hold it."""

from collections.abc import Set
from typing import Annotated
from unicodedata import category

from pydantic import BaseModel, Field, field_validator

from qgnet.inference.supports import OBJECT

MOST_CLASSES = 99
Number = Annotated[int, Field(ge=1, le=MOST_CLASSES)]
"""Of a class, in the masks."""
Probability = Annotated[float, Field(ge=0, le=1)]


class ClassEntry(BaseModel):
    """A class: its number in the masks, which never changes, and its name, which may."""

    number: Number
    name: str = Field(min_length=1, max_length=60)

    @field_validator("name")
    @classmethod
    def one_line(cls, name: str) -> str:
        """Of a line, for ``classes.txt`` has one for each class."""
        if not name.strip() or any(category(letter) in ("Cc", "Zl", "Zp") for letter in name):
            raise ValueError(f"the class name {name!r} is no line of text")
        return name


class Settings(BaseModel):
    """What the user has set: classes in their order, and thresholds by class number where they were chosen."""

    classes: list[ClassEntry] = Field(default=[ClassEntry(number=1, name=OBJECT)], min_length=1)
    thresholds: dict[Number, Annotated[float, Field(gt=0, lt=1)]] = {}

    @field_validator("classes")
    @classmethod
    def distinct(cls, classes: list[ClassEntry]) -> list[ClassEntry]:
        """Each number and each name once."""
        if len({c.number for c in classes}) < len(classes) or len({c.name for c in classes}) < len(classes):
            raise ValueError("two classes have one number or one name")
        return classes


class PaintedMask(BaseModel):
    """A painted mask: whether it is a support, and the numbers of the classes in it.

    A ``rough`` one is of strokes, and says nothing of what is not painted: in its file 0 is what is not painted, and
    255 background. In that of another 0 is background, and 255 ignored.
    """

    support: bool
    classes: list[int]
    rough: bool = False


class Outcome(BaseModel):
    """What a run said of an image, or why it could not be read.

    Attributes:
        run: number of that run.
        scores: class number → how sure it is that the image shows the class, in [0, 1].
        thresholds: class number → the one, in [0, 1], that the run's supports chose.
        stamp: of the file at that time.
        error: empty if it could be read.
    """

    run: int = Field(default=0, ge=0)
    scores: dict[Number, Probability] = {}
    thresholds: dict[Number, Probability] = {}
    stamp: int
    error: str = ""

    def of(self, numbers: Set[int]) -> "Outcome":
        """The same, of these classes alone."""
        scores, thresholds = ({n: v for n, v in of.items() if n in numbers} for of in (self.scores, self.thresholds))
        return self.model_copy(update={"scores": scores, "thresholds": thresholds})


class FittedClass(BaseModel):
    """What the last run learnt of a class: its threshold and how well its supports find each other, as IoU."""

    threshold: Probability
    expected: Probability


class SessionState(BaseModel):
    """The session file.

    Attributes:
        settings: of the user.
        painted: key of an image → its mask.
        learnt: class number → what the last run learnt.
        run: number of the last run that began.
        titles: key of an image that was dropped → its name on the user's machine.
    """

    settings: Settings = Settings()
    painted: dict[str, PaintedMask] = {}
    learnt: dict[Number, FittedClass] = {}
    run: int = Field(default=0, ge=0)
    titles: dict[str, str] = {}
