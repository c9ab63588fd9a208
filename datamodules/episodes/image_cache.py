"""Decoded images and masks in memory."""

from collections.abc import Callable

from datamodules.files.sources import Array


class ImageCache:
    """Decoded images and masks of one loader process, up to ``max_bytes``; then nothing more is added.

    Episodes draw at random from one set, so what came first is as good to keep as what came last.
    """

    def __init__(self, max_bytes: int = 256 * 2**20) -> None:
        self.bytes_left = max_bytes
        self.cached: dict[tuple[int, int], Array] = {}

    def get(self, key: tuple[int, int], read: Callable[[], Array]) -> Array:
        """What is cached under (image, class or 0), or what ``read`` gives; not to be written to."""
        if key in self.cached:
            return self.cached[key]
        value = read()
        if value.nbytes <= self.bytes_left:
            self.bytes_left -= value.nbytes
            self.cached[key] = value
        return value
