"""Decoded images that are kept."""

from collections.abc import Callable

from datamodules.files.sources import Array


class Decoded:
    """Decoded images and masks, kept as long as there is room; each loader process has its own.

    Episodes draw at random from one set, so what came first is as good to keep as what came last.
    """

    def __init__(self, room: int = 256 * 2**20) -> None:
        self.room = room
        """In bytes: a small data set whole, some hundred of VOC's photographs."""
        self.kept: dict[tuple[int, int], Array] = {}

    def get(self, key: tuple[int, int], read: Callable[[], Array]) -> Array:
        """What is kept under (image, class or 0), or what ``read`` gives; not to be written to."""
        if key in self.kept:
            return self.kept[key]
        value = read()
        if value.nbytes <= self.room:
            self.room -= value.nbytes
            self.kept[key] = value
        return value
