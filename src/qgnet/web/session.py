"""The work on a folder, saved in a folder of its own within it, so that nothing is lost with the browser."""

import json
import shutil
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datamodules.files import read_image_size
from datamodules.files.sources import IGNORE
from datamodules.files.writing import remove_parts
from qgnet.common.errors import InputError
from qgnet.common.locks import claim
from qgnet.outputs.formats import eight_bits, write_grey, write_text
from qgnet.outputs.segments import Result
from qgnet.web.disk_errors import disk_error_message
from qgnet.web.images import FolderImage
from qgnet.web.recovery import read_outcomes, read_state
from qgnet.web.session_file import FittedClass, Outcome, PaintedMask, Settings

FOLDER = ".qgnet-page"
"""In the folder of the images."""
LOCK = "server.lock"
"""In that folder. Held by the one server that works on it; two would overwrite one another's work."""
Labels = NDArray[np.uint8]


class Session:
    """The work on a folder; every change is on disk before a call returns. May be used from several threads.

    Args:
        folder: of the images.

    Attributes:
        warnings: of files that could not be read whole.
        active_classes: numbers of the classes that the present run looks for, without those that were removed since.

    Raises:
        InputError: if the folder for the session cannot be made or used, or another server works on it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER
        self.file = self.folder / "session.json"
        self.log_file = self.folder / "results.jsonl"
        self.lock = RLock()
        try:
            self.folder.mkdir(exist_ok=True)
            (self.folder / "incoming").mkdir(exist_ok=True)
            busy = f"Another `qgnet serve` (process {{process}}) works on {folder}. Use its page, or end it first."
            self.claim = claim(self.folder / LOCK, busy)
            remove_parts(self.folder)
        except OSError as error:
            raise InputError(
                f"{self.folder} cannot be made ({error.strerror}), and the work is saved there. Copy the images to "
                "a folder that you may write to."
            ) from None
        try:
            self.warnings = self._read()
        except OSError as error:
            self.close()
            raise InputError(disk_error_message(error)) from None

    def close(self) -> None:
        """Let another server work on the folder."""
        self.claim.close()

    def _read(self) -> list[str]:
        """Read what was saved; warnings of files that are broken."""
        self.state, of_state = read_state(self.file, self.folder / "masks")
        self.active_classes = set(self.names)
        self.outcomes, of_log = read_outcomes(self.log_file, self.active_classes)
        if of_log:
            self._write_log()
        if of_state:
            self.change(run=max([self.state.run, *(outcome.run for outcome in self.outcomes.values())]))
        return [line for line in (of_state, of_log) if line]

    def _write_log(self) -> None:
        write_text(self.log_file, "".join(log_line(key, outcome) for key, outcome in self.outcomes.items()))

    def check_there(self) -> None:
        """Raise InputError if the folder was taken away: to write into it would make it again, in its place."""
        if not (self.folder / LOCK).is_file():
            raise InputError(f"{self.folder} is gone. Put it back; nothing that you painted is lost with it.")

    def change(self, **changes: Any) -> None:
        """Write the session with these fields exchanged; it is left as it was where that fails."""
        with self.lock:
            self.check_there()
            state = self.state.model_copy(update=changes)
            write_text(self.file, state.model_dump_json(indent=1))
            self.state = state

    @property
    def names(self) -> dict[int, str]:
        """Class number → name, in their order."""
        return {c.number: c.name for c in self.state.settings.classes}

    def set(self, settings: Settings) -> None:
        """Exchange the settings; InputError if a class that is painted somewhere would vanish.

        What was found of a class that vanishes is forgotten, also by the run that goes on: its number may be given to
        another.
        """
        with self.lock:
            gone = self.names.keys() - {c.number for c in settings.classes}
            painted = {number for painted in self.state.painted.values() for number in painted.classes}
            for number in sorted(gone & painted):
                name = self.names[number]
                raise InputError(f"The class {name!r} is painted in an image. Erase it there before you take it out.")
            learnt = {number: learnt for number, learnt in self.state.learnt.items() if number not in gone}
            self.change(settings=settings, learnt=learnt)
            self.active_classes -= gone
            if gone:
                self.outcomes = {key: outcome.of(set(self.names)) for key, outcome in self.outcomes.items()}
                self._write_log()

    def title(self, image: FolderImage) -> str:
        """What the user calls an image."""
        return self.state.titles.get(image.key, image.name)

    def set_title(self, key: str, title: str) -> None:
        """Remember the name under which an image was dropped."""
        with self.lock:
            self.change(titles=self.state.titles | {key: title})

    def mask_file(self, key: str) -> Path:
        """Of a painted mask."""
        return self.folder / "masks" / f"{key}.png"

    def mask(self, image: FolderImage) -> Labels:
        """(H, W) of the image's size: 0 background, 255 ignored, and class numbers.

        Raises:
            InputError: with the image's name, if its mask is gone, broken, or of another size; if the folder is gone.
        """
        self.check_there()
        whose = f"The painted mask of {self.title(image)}"
        anew = "Press Clear in this image, then paint it again."
        try:
            with Image.open(self.mask_file(image.key), formats=["PNG"]) as png:
                mask = np.asarray(png)
        except FileNotFoundError:
            raise InputError(f"{whose} is gone. {anew}") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"{whose} cannot be read ({error}). {anew}") from None
        size = read_image_size(image.path)
        if mask.shape != size or mask.dtype != np.uint8:
            raise InputError(
                f"{whose} is {mask.shape[1]}x{mask.shape[0]} px, {mask.dtype}, the image {size[1]}x{size[0]} px. Put "
                f"the earlier image back, or: {anew}"
            )
        return as_meant(mask, self.is_rough(image.key))

    def is_rough(self, key: str) -> bool:
        """Whether an image is painted with rough strokes, see `PaintedMask`."""
        painted = self.state.painted.get(key)
        return painted is not None and painted.rough

    def paint(self, key: str, mask: Labels, support: bool, rough: bool = False) -> PaintedMask:
        """Save a mask as the page has it, see `PaintedMask`.

        InputError if it holds a number that is no class, or is to be a support and shows nothing.
        """
        classes = [number for number in np.unique(mask).tolist() if number not in (0, IGNORE)]
        if support and not classes:
            raise InputError("The mask is empty, and a support must show something. Paint the object first.")
        with self.lock:
            unknown = [number for number in classes if number not in self.names]
            if unknown:
                raise InputError(f"The mask holds the number {unknown[0]}, which is no class.")
            self.check_there()
            write_grey(self.mask_file(key), mask)
            painted = PaintedMask(support=support, classes=classes, rough=rough)
            self.change(painted=self.state.painted | {key: painted})
        return painted

    def clear(self, key: str) -> None:
        """Forget a painted mask."""
        with self.lock:
            self.change(painted={k: painted for k, painted in self.state.painted.items() if k != key})
            self.mask_file(key).unlink(missing_ok=True)

    def supports(self) -> dict[str, PaintedMask]:
        """Those of a run that begins, by the images' keys: with the classes that there are now."""
        with self.lock:
            self.active_classes = set(self.names)
            return {key: painted for key, painted in self.state.painted.items() if painted.support}

    def begin(self, learnt: dict[int, FittedClass]) -> None:
        """Count a run; what earlier ones found stays until this one has found something in the same image."""
        with self.lock:
            self.check_there()
            self._write_log()
            self.change(
                learnt={n: one for n, one in learnt.items() if n in self.active_classes}, run=self.state.run + 1
            )

    def result_file(self, image: FolderImage, number: int, kind: str = "probability") -> Path | None:
        """What was found of a class, None if there is nothing: grey, 0 … 255 for 0 … 1; ``probability`` at the
        image's size, the maps ``guided`` and ``prior`` small.
        """  # noqa: D205
        outcome = self.outcome(image)
        if outcome is None or number not in outcome.scores:
            return None
        return self._results(image.key, outcome.run) / f"{number}-{kind}.png"

    def _results(self, key: str, run: int) -> Path:
        """The folder for what a run found in an image."""
        return self.folder / "results" / key / str(run)

    def write_result(
        self, image: FolderImage, stamp: int, result: Result, maps: dict[str, dict[str, Labels]]
    ) -> Outcome:
        """Save a result whose classes are called by their numbers; ``stamp`` is of the file when it was read."""
        self.check_there()
        folder = self._results(image.key, self.state.run)
        for number, segment in result.segments.items():
            write_grey(folder / f"{number}-probability.png", eight_bits(segment.probability))
            for kind, values in maps[number].items():
                write_grey(folder / f"{number}-{kind}.png", values)
        scores = {int(number): round(segment.score, 4) for number, segment in result.segments.items()}
        thresholds = {n: learnt.threshold for n, learnt in self.state.learnt.items()}
        return self.log(image, Outcome(scores=scores, thresholds=thresholds, stamp=stamp))

    def log(self, image: FolderImage, outcome: Outcome) -> Outcome:
        """Add the present run's outcome to the log, after all its files; only then remove earlier files."""
        with self.lock:
            self.check_there()
            outcome = outcome.of(self.active_classes).model_copy(update={"run": self.state.run})
            with open(self.log_file, "a", encoding="utf-8") as log:
                log.write(log_line(image.key, outcome))
            self.outcomes[image.key] = outcome
        new = self._results(image.key, outcome.run)
        for old in new.parent.iterdir() if new.parent.is_dir() else []:
            if old != new:
                shutil.rmtree(old, ignore_errors=True)
        return outcome

    def outcome(self, image: FolderImage) -> Outcome | None:
        """What the last run that came to the image said of it; None if it has changed since, or there is nothing."""
        outcome = self.outcomes.get(image.key)
        return outcome if outcome is not None and outcome.stamp == stamp_of(image) else None

    def describe(self, outcome: Outcome) -> dict[str, Any]:
        """What the page knows of an outcome; ``stale`` if a later run has begun since."""
        return outcome.model_dump(exclude={"stamp", "run"}) | {"stale": outcome.run != self.state.run}


def as_meant(mask: Labels, rough: bool) -> Labels:
    """A mask as the page has it → 0 background and 255 ignored, or not painted; see `PaintedMask`."""
    if not rough:
        return mask
    return np.where(mask == 0, IGNORE, np.where(mask == IGNORE, 0, mask)).astype(np.uint8)


def log_line(key: str, outcome: Outcome) -> str:
    """Of the log."""
    return json.dumps([key, outcome.model_dump()]) + "\n"


def stamp_of(image: FolderImage) -> int:
    """Changes with the image's file; 0 if it is gone."""
    return image.path.stat().st_mtime_ns if image.path.exists() else 0
