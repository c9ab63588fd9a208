"""The thread that uses the network, and the events that it sends to all open pages."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, Lock
from typing import Any, TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.episodes.letterbox import Letterboxed
from datamodules.episodes.prepared import PreparedImage
from datamodules.files import read_image
from datamodules.files.sources import IGNORE
from qgnet.common.errors import InputError
from qgnet.inference.segmenter import BATCH, Segmenter
from qgnet.inference.snap import grow
from qgnet.outputs.formats import eight_bits
from qgnet.outputs.segments import Result
from qgnet.web.disk_errors import disk_error_message
from qgnet.web.images import FolderImage, ImageFolder
from qgnet.web.session import Labels, Session, stamp_of
from qgnet.web.session_file import FittedClass, Outcome

MAP = 256
"""Longer side of the region maps, in pixels."""
ALIVE = 15.0
"""Seconds without an event after which a page gets a comment line that keeps the connection open."""


class Job(TypedDict):
    """A run for the page: whether it is running, the numbers of finished and of all images, and an error message."""

    running: bool
    done: int
    total: int
    error: str


class Worker:
    """Runs the Segmenter over the images of the folder, one run after the other, in a separate thread."""

    def __init__(self, segmenter: Segmenter, session: Session, images: ImageFolder) -> None:
        self.segmenter = segmenter
        self.session = session
        self.images = images
        self.job = Job(running=False, done=0, total=0, error="")
        self.stopped = Event()
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="segmenter")
        self.future: Future[None] | None = None
        self.lock = Lock()
        self.pages: dict[asyncio.Queue[str | None], asyncio.AbstractEventLoop] = {}
        self.ended = False

    def start(self, first: str) -> None:
        """Stop the previous run and start one that begins with the image of this key; InputError without a support."""
        supports = {key for key, painted in self.session.state.painted.items() if painted.support}
        if not supports & self.images.known.keys():
            raise InputError("Nothing is painted yet. Paint the object in at least one image, then press Segment.")
        with self.lock:
            self.stopped.set()
            stopped = self.stopped = Event()
            self.update_job(running=True, done=0, total=0, error="")
            self.future = self.thread.submit(self._run, first, stopped)

    def stop(self) -> None:
        """Stop the run after the current batch; at once if it has not begun."""
        with self.lock:
            self.stopped.set()

    def close(self) -> None:
        """Stop the run and end the thread."""
        self.stop()
        self.thread.shutdown(wait=True, cancel_futures=True)

    def _run(self, first: str, stopped: Event) -> None:
        error = ""
        try:
            if not stopped.is_set():
                self.update_job(running=True, done=0, total=0, error="")  # the previous run may have changed it
                if self._learn(stopped):
                    self._segment(first, stopped)
        except InputError as mistake:
            error = str(mistake)
        except OSError as failure:
            error = disk_error_message(failure)
        except Exception as fault:
            error = f"The run ended by an error of the program: {fault!r}"
            raise
        finally:
            with self.lock:
                if stopped is self.stopped:  # otherwise the page shows the next run, which is waiting
                    self.update_job(running=False, error=error)

    def _learn(self, stopped: Event) -> bool:
        """Fit the Segmenter to all supports, with class numbers as names; return whether the run continues."""
        pairs: dict[int, list[tuple[Any, Any]]] = {}
        images = {image.key: image for image in self.images.find()}
        supports = self.session.supports()
        for image in [images[key] for key in supports if key in images]:
            pixels = read_image(image.path)
            for number, binary in self._binary_masks(image).items():
                mask = grow(pixels, binary) if self.session.is_rough(image.key) else binary
                pairs.setdefault(number, []).append((pixels, mask))
        self.segmenter.fit({str(number): pairs[number] for number in sorted(pairs)})
        if stopped.is_set():
            return False
        found = {int(one.name): (one.threshold, one.expected_iou) for one in self.segmenter.fitted}
        self.session.begin({n: FittedClass(threshold=t, expected=iou) for n, (t, iou) in found.items()})
        self.send("learnt", {number: learnt.model_dump() for number, learnt in self.session.state.learnt.items()})
        return True

    def _binary_masks(self, image: FolderImage) -> dict[int, Labels]:
        """Class number → mask (H, W) in {0, 1, 255} of a support; InputError with its name if it cannot be one."""
        mask = self.session.mask(image)
        numbers = [number for number in self.session.names if (mask == number).any()]
        masks = {n: np.where(mask == IGNORE, IGNORE, mask == n).astype(np.uint8) for n in numbers}
        if not numbers or not all((binary == 0).any() for binary in masks.values()):
            whose = f"The painted mask of {self.session.title(image)}"
            if numbers and self.session.is_rough(image.key):
                raise InputError(
                    f"{whose} has strokes of one class alone. Paint some background, too, or let what is unpainted be "
                    "background."
                )
            raise InputError(
                f"{whose} marks {'everything' if numbers else 'nothing'}. A "
                "support must show the object and some background: correct it, or take it out of the supports."
            )
        return masks

    def _segment(self, first: str, stopped: Event) -> None:
        """Segment all images without a complete painted mask. The first is a batch by itself, to be shown at once."""
        painted = self.session.state.painted
        waiting = [p for p in self.images.find() if p.key not in painted or painted[p.key].rough]
        waiting.sort(key=lambda image: image.key != first)
        self.update_job(total=len(waiting))
        batches = [waiting[:1], *(waiting[i : i + BATCH] for i in range(1, len(waiting), BATCH))]
        for batch in batches:
            if stopped.is_set():
                return
            self._segment_some(batch)
            self.update_job(done=self.job["done"] + len(batch))

    def _segment_some(self, batch: Sequence[FolderImage]) -> None:
        prepared: list[tuple[FolderImage, int, PreparedImage]] = []
        for image in batch:
            stamp = stamp_of(image)  # before reading, so that an image that is replaced meanwhile counts as changed
            try:
                pixels = read_image(image.path)
            except InputError as error:
                outcome = Outcome(stamp=stamp, error=str(error))
                self._send_outcome(image, self.session.log(image, outcome))
                continue
            prepared.append((image, stamp, self.segmenter.prepare(pixels)))
        if not prepared:
            return
        names = [image.name for image, _, _ in prepared]
        results = self.segmenter.segment([p for _, _, p in prepared], names)
        for (image, stamp, p), result in zip(prepared, results, strict=True):
            maps = maps_of(result, p.scales[-1])
            self._send_outcome(image, self.session.write_result(image, stamp, result, maps))

    def _send_outcome(self, image: FolderImage, outcome: Outcome) -> None:
        self.send("result", {"key": image.key, **self.session.describe(outcome)})

    def update_job(self, **changes: Any) -> None:
        """Change the state of the run and send it to all pages."""
        self.job = Job(**{**self.job, **changes})  # type: ignore[typeddict-item]
        self.send("job", self.job)

    def send(self, event: str, content: object) -> None:
        """Send an event to all open pages; safe in any thread."""
        self._send(f"event: {event}\ndata: {json.dumps(content)}\n\n")

    def close_events(self) -> None:
        """End the events of all pages, also of pages that connect later, because the server stops."""
        self.ended = True
        self._send(None)

    def _send(self, message: str | None) -> None:
        for queue, loop in list(self.pages.items()):
            loop.call_soon_threadsafe(queue.put_nowait, message)

    async def events(self) -> AsyncIterator[str]:
        """Yield server-sent events from now on, the state of the run first."""
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        self.pages[queue] = asyncio.get_running_loop()
        try:
            message: str | None = f"event: job\ndata: {json.dumps(self.job)}\n\n"
            while message is not None and not self.ended:
                yield message
                try:
                    message = await asyncio.wait_for(queue.get(), ALIVE)
                except asyncio.TimeoutError:
                    message = ": alive\n\n"
        finally:
            del self.pages[queue]


def maps_of(result: Result, image: Letterboxed) -> dict[str, dict[str, Labels]]:
    """Class → its region maps without padding, longer side at most `MAP` px."""
    shown, side = image.windows[0].content_size, image.squares.shape[-1]
    return {
        name: {kind: eight_bits(without_padding(values, shown, side)) for kind, values in segment.maps.items()}
        for name, segment in result.segments.items()
    }


def without_padding(values: NDArray[np.float32], shown: tuple[int, int], side: int) -> NDArray[np.float32]:
    """A map (h, w) of the network's square → the part over the image, with the ratio of `shown`, at most `MAP` px.

    Args:
        values: the map, in [0, 1].
        shown: (height, width) of the image in the square, in pixels.
        side: side of the square, in pixels.
    """
    square = cv2.resize(values, (side, side), interpolation=cv2.INTER_LINEAR)[: shown[0], : shown[1]]
    scale = min(1.0, MAP / max(shown))
    size = (max(1, round(shown[1] * scale)), max(1, round(shown[0] * scale)))
    return cv2.resize(square, size, interpolation=cv2.INTER_AREA).astype(np.float32).clip(0, 1)
