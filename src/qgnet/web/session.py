"""The work on an image folder, saved in a subfolder, so that it survives the browser."""

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
"""Subfolder of the image folder."""
LOCK = "server.lock"
"""Lock file in `FOLDER`. One server holds it, because two would overwrite each other's work."""
Labels = NDArray[np.uint8]


class Session:
    """The work on an image folder. Every change is on disk before its call returns. Safe to use from several threads.

    Args:
        folder: the image folder.

    Attributes:
        warnings: about files that could be read only in part.
        active_classes: numbers of the classes of the current run, without classes that were removed since its start.

    Raises:
        InputError: if the session folder cannot be created or used, or another server works on it.
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
        """Release the folder for other servers."""
        self.claim.close()

    def _read(self) -> list[str]:
        """Read the saved session; return warnings about broken files."""
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
        """Raise InputError if the folder is missing; writing would create a new one in its place."""
        if not (self.folder / LOCK).is_file():
            raise InputError(f"{self.folder} is gone. Put it back; nothing that you painted is lost with it.")

    def change(self, **changes: Any) -> None:
        """Write the session with these fields replaced; if writing fails, the session stays unchanged."""
        with self.lock:
            self.check_there()
            state = self.state.model_copy(update=changes)
            write_text(self.file, state.model_dump_json(indent=1))
            self.state = state

    @property
    def names(self) -> dict[int, str]:
        """Class number → name, in the order of the classes."""
        return {c.number: c.name for c in self.state.settings.classes}

    def set(self, settings: Settings) -> None:
        """Replace the settings; InputError if they remove a class that is painted in an image.

        The results of a removed class are deleted, also in the current run, because a new class may get its number.
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
        """The name of an image as the user knows it."""
        return self.state.titles.get(image.key, image.name)

    def set_title(self, key: str, title: str) -> None:
        """Remember the name under which an image was dropped."""
        with self.lock:
            self.change(titles=self.state.titles | {key: title})

    def mask_file(self, key: str) -> Path:
        """Path of a painted mask."""
        return self.folder / "masks" / f"{key}.png"

    def mask(self, image: FolderImage) -> Labels:
        """The painted mask, (H, W) uint8 at the size of the image: 0 background, 255 ignored, else a class number.

        Raises:
            InputError: if the mask is missing, broken or of another size; it names the image. If the folder is missing.
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
        """Whether an image is painted with rough strokes; see `PaintedMask`."""
        painted = self.state.painted.get(key)
        return painted is not None and painted.rough

    def paint(self, key: str, mask: Labels, support: bool, rough: bool = False) -> PaintedMask:
        """Save a mask in the form of the page; see `PaintedMask`.

        InputError if it contains a number without a class, or if it is a support and empty.
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
        """Delete a painted mask."""
        with self.lock:
            self.change(painted={k: painted for k, painted in self.state.painted.items() if k != key})
            self.mask_file(key).unlink(missing_ok=True)

    def supports(self) -> dict[str, PaintedMask]:
        """Start a run with the current classes: image key → painted mask of every support."""
        with self.lock:
            self.active_classes = set(self.names)
            return {key: painted for key, painted in self.state.painted.items() if painted.support}

    def begin(self, learnt: dict[int, FittedClass]) -> None:
        """Count a new run. Earlier results of an image stay until this run has a result for it."""
        with self.lock:
            self.check_there()
            self._write_log()
            self.change(
                learnt={n: one for n, one in learnt.items() if n in self.active_classes}, run=self.state.run + 1
            )

    def result_file(self, image: FolderImage, number: int, kind: str = "probability") -> Path | None:
        """The result of a class as a grey PNG, 0 … 255 for 0 … 1; None without a result. ``probability`` has the size
        of the image, the maps ``guided`` and ``prior`` are small.
        """  # noqa: D205
        outcome = self.outcome(image)
        if outcome is None or number not in outcome.scores:
            return None
        return self._results(image.key, outcome.run) / f"{number}-{kind}.png"

    def _results(self, key: str, run: int) -> Path:
        """The folder for the results of a run in an image."""
        return self.folder / "results" / key / str(run)

    def write_result(
        self, image: FolderImage, stamp: int, result: Result, maps: dict[str, dict[str, Labels]]
    ) -> Outcome:
        """Save a result whose classes have their numbers as names; ``stamp`` is that of the file when it was read."""
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
        """Add the outcome of the current run to the log after its files are written; then remove earlier files."""
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
        """The last outcome of an image; None without one, or if the image has changed since."""
        outcome = self.outcomes.get(image.key)
        return outcome if outcome is not None and outcome.stamp == stamp_of(image) else None

    def describe(self, outcome: Outcome) -> dict[str, Any]:
        """An outcome for the page; ``stale`` if a later run has begun since."""
        return outcome.model_dump(exclude={"stamp", "run"}) | {"stale": outcome.run != self.state.run}


def as_meant(mask: Labels, rough: bool) -> Labels:
    """Mask in the form of the page → 0 background, 255 ignored or not painted; see `PaintedMask`."""
    if not rough:
        return mask
    return np.where(mask == 0, IGNORE, np.where(mask == IGNORE, 0, mask)).astype(np.uint8)


def log_line(key: str, outcome: Outcome) -> str:
    """A line of the log."""
    return json.dumps([key, outcome.model_dump()]) + "\n"


def stamp_of(image: FolderImage) -> int:
    """The modification time of an image file in nanoseconds; 0 if the file is missing."""
    return image.path.stat().st_mtime_ns if image.path.exists() else 0
