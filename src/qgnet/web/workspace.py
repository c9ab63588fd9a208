"""The parts of a server: the images of the folder, the saved session, and the thread with the network."""

from pathlib import Path
from typing import Any

from fastapi import HTTPException

from qgnet.inference.segmenter import Segmenter
from qgnet.web.images import FolderImage, ImageFolder
from qgnet.web.session import Session
from qgnet.web.worker import Worker

CACHE = 512
"""MB for encoded images: the next run does not encode the most recent images again."""


class Workspace:
    """The objects that the routes use.

    Args:
        folder: the image folder.
        segmenter: segments the images.

    Raises:
        InputError: if the folder does not exist, another server works on it, or no session can be saved in it.
    """

    def __init__(self, folder: Path, segmenter: Segmenter) -> None:
        self.folder = folder
        self.images = ImageFolder(folder)
        self.images.find()
        self.session = Session(folder)
        self.worker = Worker(segmenter.remember(CACHE), self.session, self.images)
        self.presence = segmenter.presence if segmenter.calibration is not None else 0.0
        self.maps = segmenter.model.net.map_names

    def close(self) -> None:
        """Stop the run, end the thread and release the folder for other servers."""
        self.worker.close()
        self.session.close()

    def find(self, key: str) -> FolderImage:
        """The image with this key; HTTPException 404 if it is not in the folder."""
        try:
            return self.images.get(key)
        except KeyError:
            raise HTTPException(404, "This image is no longer in the folder. Load the page again.") from None

    def description(self, image: FolderImage) -> dict[str, Any]:
        """The description of an image for the page."""
        painted, outcome = self.session.state.painted.get(image.key), self.session.outcome(image)
        return {
            "key": image.key,
            "name": self.session.title(image),
            "painted": painted and painted.model_dump(),
            "outcome": outcome and self.session.describe(outcome),
        }
