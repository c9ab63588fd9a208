"""What is kept of the work on a folder, in a folder of its own within it, so that nothing is lost with the browser."""

import json
import shutil
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from datamodules.files.sources import IGNORE
from qgnet.common.errors import InputError
from qgnet.outputs.formats import write_grey, write_text
from qgnet.outputs.segments import Result, Segment, furthest_above
from qgnet.web.claim import claim
from qgnet.web.kept import Kept, Learnt, Outcome, Painted, Settings
from qgnet.web.pictures import Picture

FOLDER = ".qgnet-page"
"""In the folder of the photographs."""
Labels = NDArray[np.uint8]


class Session:
    """The work on a folder; every change is on disk before a call returns. May be used from several threads.

    Args:
        folder: of the photographs.

    Raises:
        InputError: if the folder for the session cannot be made, another server works on it, or its file is broken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER
        self.file = self.folder / "session.json"
        self.log_file = self.folder / "results.jsonl"
        self.lock = RLock()
        try:
            self.folder.mkdir(exist_ok=True)
            (self.folder / "incoming").mkdir(exist_ok=True)
            self.claim = claim(self.folder)
        except OSError as error:
            raise InputError(
                f"{self.folder} cannot be made ({error.strerror}), and the work is kept there. Copy the photographs to "
                "a folder that you may write to."
            ) from None
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another server work on the folder."""
        self.claim.close()

    def _read(self) -> None:
        try:
            text = self.file.read_text(encoding="utf-8") if self.file.exists() else "{}"
            self.kept = Kept.model_validate_json(text)
        except (OSError, ValidationError) as error:
            raise InputError(f"{self.file} cannot be read ({error}). Move it away; the masks beside it stay.") from None
        self.outcomes = self._read_outcomes()

    def _read_outcomes(self) -> dict[str, Outcome]:
        """The log's last word on each picture; a line that was cut off by the end of the server is left out."""
        outcomes = {}
        for line in self.log_file.read_text(encoding="utf-8").splitlines() if self.log_file.exists() else []:
            try:
                key, outcome = json.loads(line)
            except json.JSONDecodeError:
                continue
            outcomes[key] = Outcome.model_validate(outcome)
        return outcomes

    def change(self, **changes: Any) -> None:
        """Write the session with these fields exchanged; it is left as it was where that fails."""
        with self.lock:
            kept = self.kept.model_copy(update=changes)
            write_text(self.file, kept.model_dump_json(indent=1))
            self.kept = kept

    @property
    def names(self) -> dict[int, str]:
        """Class number → name, in their order."""
        return {c.number: c.name for c in self.kept.settings.classes}

    def set(self, settings: Settings) -> None:
        """Exchange the settings; InputError if a class that is painted somewhere would vanish."""
        left = {c.number for c in settings.classes}
        for painted in self.kept.painted.values():
            gone = [number for number in painted.classes if number not in left]
            if gone:
                name = self.names[gone[0]]
                raise InputError(f"The class {name!r} is painted in a picture. Erase it there before you take it out.")
        self.change(settings=settings)

    def give_title(self, key: str, title: str) -> None:
        """Remember the name under which a picture was dropped."""
        with self.lock:
            self.change(titles=self.kept.titles | {key: title})

    def mask_file(self, key: str) -> Path:
        """Of a painted mask."""
        return self.folder / "masks" / f"{key}.png"

    def mask(self, key: str) -> Labels:
        """(H, W): 0 background, 255 ignored, and class numbers."""
        return np.asarray(Image.open(self.mask_file(key)))

    def paint(self, key: str, mask: Labels, support: bool) -> Painted:
        """Keep a mask; InputError if it holds a number that is no class, or is to be a support and shows nothing."""
        classes = [number for number in np.unique(mask).tolist() if number not in (0, IGNORE)]
        unknown = [number for number in classes if number not in self.names]
        if unknown:
            raise InputError(f"The mask holds the number {unknown[0]}, which is no class.")
        if support and not classes:
            raise InputError("The mask is empty, and a support must show something. Paint the object first.")
        with self.lock:
            write_grey(self.mask_file(key), mask)
            painted = Painted(support=support, classes=classes)
            self.change(painted=self.kept.painted | {key: painted})
        return painted

    def clear(self, key: str) -> None:
        """Forget a painted mask."""
        with self.lock:
            self.change(painted={k: painted for k, painted in self.kept.painted.items() if k != key})
            self.mask_file(key).unlink(missing_ok=True)

    def begin(self, learnt: dict[int, Learnt]) -> None:
        """Begin a run; what earlier ones found stays until this one has found something in the same picture."""
        with self.lock:
            write_text(self.log_file, "".join(log_line(key, outcome) for key, outcome in self.outcomes.items()))
            self.change(learnt=learnt, run=self.kept.run + 1)

    def result_file(self, key: str, number: int, kind: str = "probability") -> Path:
        """Grey, 0 … 255 for 0 … 1; ``probability`` at the picture's size, the maps ``guided`` and ``prior`` small."""
        run = self.outcomes[key].run if key in self.outcomes else 0
        return self._results(key, run) / f"{number}-{kind}.png"

    def _results(self, key: str, run: int) -> Path:
        """The folder for what a run found in a picture."""
        return self.folder / "results" / key / str(run)

    def keep_result(self, picture: Picture, result: Result, maps: dict[str, dict[str, Labels]]) -> Outcome:
        """Keep what a run said of a picture.

        Args:
            picture: that was segmented.
            result: of the Segmenter.
            maps: class name → kind of map → (h, w) uint8.
        """
        run, scores = self.kept.run, {}
        folder = self._results(picture.key, run)
        for number, name in self.names.items():
            segment = result.segments.get(name)
            if segment is None:
                continue
            write_grey(folder / f"{number}-probability.png", eight_bits(segment.probability))
            for kind, values in maps[name].items():
                write_grey(folder / f"{number}-{kind}.png", values)
            scores[number] = round(segment.score, 4)
        thresholds = {n: learnt.threshold for n, learnt in self.kept.learnt.items() if n in scores}
        return self.log(picture, Outcome(scores=scores, thresholds=thresholds, stamp=stamp_of(picture)))

    def log(self, picture: Picture, outcome: Outcome) -> Outcome:
        """Add the present run's word on a picture to the log, after all its files; only then take the earlier away."""
        with self.lock:
            outcome = outcome.model_copy(update={"run": self.kept.run})
            with open(self.log_file, "a", encoding="utf-8") as log:
                log.write(log_line(picture.key, outcome))
            self.outcomes[picture.key] = outcome
        new = self._results(picture.key, outcome.run)
        for old in new.parent.iterdir() if new.parent.is_dir() else []:
            if old != new:
                shutil.rmtree(old, ignore_errors=True)
        return outcome

    def outcome(self, picture: Picture) -> Outcome | None:
        """What the last run that came to the picture said of it; None if it has changed since, or there is nothing."""
        outcome = self.outcomes.get(picture.key)
        return outcome if outcome is not None and outcome.stamp == stamp_of(picture) else None

    def described(self, outcome: Outcome) -> dict[str, Any]:
        """What the page knows of an outcome; ``stale`` if a later run has begun since."""
        return outcome.model_dump(exclude={"stamp", "run"}) | {"stale": outcome.run != self.kept.run}

    def result(self, picture: Picture, presence: float) -> Result | None:
        """What there is of the picture, for files: the painted mask, or what was found at today's thresholds."""
        painted = self.kept.painted.get(picture.key)
        if painted is not None:
            mask = self.mask(picture.key)
            return as_result({name: (mask == n).astype(np.float32) for n, name in self.names.items()}, {}, {}, 0)
        outcome = self.outcome(picture)
        if outcome is None or outcome.error:
            return None
        found = {n: self.result_file(picture.key, n) for n in outcome.scores if n in self.names}
        names = self.names
        probabilities = {
            names[n]: np.asarray(Image.open(file)).astype(np.float32) / np.float32(255) for n, file in found.items()
        }
        chosen = outcome.thresholds | self.kept.settings.thresholds
        thresholds = {names[n]: chosen[n] for n in found if n in chosen}
        return as_result(probabilities, thresholds, {names[n]: outcome.scores[n] for n in found}, presence)


def log_line(key: str, outcome: Outcome) -> str:
    """Of the log."""
    return json.dumps([key, outcome.model_dump()]) + "\n"


def stamp_of(picture: Picture) -> int:
    """Changes with the picture's file; 0 if it is gone."""
    return picture.path.stat().st_mtime_ns if picture.path.exists() else 0


def as_result(
    probabilities: dict[str, NDArray[np.float32]],
    thresholds: dict[str, float],
    scores: dict[str, float],
    presence: float,
) -> Result:
    """A Result of (H, W) probabilities by class; without a threshold it is 0.5, without a score 1."""
    there = [scores.get(name, 1.0) >= presence for name in probabilities]
    winner = furthest_above([*probabilities.values()], [thresholds.get(name, 0.5) for name in probabilities], there)
    return Result(
        {
            name: Segment(name, (winner == i).astype(np.uint8), p, scores.get(name, 1.0), {})
            for i, (name, p) in enumerate(probabilities.items())
        }
    )


def eight_bits(values: NDArray[np.float32]) -> Labels:
    """0 … 1 → 0 … 255."""
    return (values * 255).round().astype(np.uint8)
