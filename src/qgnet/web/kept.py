"""What a session consists of, as its files hold it."""

from pydantic import BaseModel, Field, field_validator

from qgnet.segmenting.given import OBJECT

MOST_CLASSES = 99


class ClassEntry(BaseModel):
    """A class: its number in the masks, which never changes, and its name, which may."""

    number: int = Field(ge=1, le=MOST_CLASSES)
    name: str = Field(min_length=1, max_length=60)


class Settings(BaseModel):
    """What the user has set.

    Attributes:
        classes: in the order in which they are shown and exported.
        thresholds: class number → probability, where the user has chosen one.
    """

    classes: list[ClassEntry] = Field(default=[ClassEntry(number=1, name=OBJECT)], min_length=1)
    thresholds: dict[int, float] = {}

    @field_validator("classes")
    @classmethod
    def distinct(cls, classes: list[ClassEntry]) -> list[ClassEntry]:
        """Each number and each name once."""
        if len({c.number for c in classes}) < len(classes) or len({c.name for c in classes}) < len(classes):
            raise ValueError("two classes have one number or one name")
        return classes


class Painted(BaseModel):
    """A painted mask: whether it is a support, and the numbers of the classes in it."""

    support: bool
    classes: list[int]


class Outcome(BaseModel):
    """What a run said of a picture, or why it could not be read.

    Attributes:
        run: number of that run.
        scores: class number → how sure it is that the picture shows the class, in [0, 1].
        thresholds: class number → the one that the run's supports chose.
        stamp: of the file at that time.
        error: empty if it could be read.
    """

    run: int = 0
    scores: dict[int, float] = {}
    thresholds: dict[int, float] = {}
    stamp: int
    error: str = ""


class Learnt(BaseModel):
    """What the last run learnt of a class: its threshold and how well its supports find each other, as IoU."""

    threshold: float
    expected: float


class Kept(BaseModel):
    """The session file.

    Attributes:
        settings: of the user.
        painted: key of a picture → its mask.
        learnt: class number → what the last run learnt.
        run: number of the last run that began.
        titles: key of a picture that was dropped → its name on the user's machine.
    """

    settings: Settings = Settings()
    painted: dict[str, Painted] = {}
    learnt: dict[int, Learnt] = {}
    run: int = 0
    titles: dict[str, str] = {}
