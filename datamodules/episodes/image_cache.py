"""Decoded images and masks in memory."""

from collections.abc import Callable

from datamodules.files.sources import Array


class ImageCache:
    """Decoded images and masks of one loader process, up to ``max_bytes``; then nothing more is added.

    Episodes draw at random from one set, so the first images are as useful as the last.
    """

    def __init__(self, max_bytes: int = 256 * 2**20) -> None:
        self.bytes_left = max_bytes
        self.cached: dict[tuple[int, int], Array] = {}

    def get(self, key: tuple[int, int], read: Callable[[], Array]) -> Array:
        """The cached value of (image, class or 0), or the result of ``read``. Do not write to it."""
        if key in self.cached:
            return self.cached[key]
        value = read()
        if value.nbytes <= self.bytes_left:
            self.bytes_left -= value.nbytes
            self.cached[key] = value
        return value
