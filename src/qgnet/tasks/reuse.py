"""Encode each image of an evaluation once: what a network keeps of images, in a bounded memory."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import torch
from torch import Tensor

from datamodules.episodes.episode import Episode
from qgnet.networks.matcher import Matcher
from qgnet.networks.qgnet import QGNet, QGNetOutput
from qgnet.tasks.base import normalise

MB = 2**20


class Memory:
    """Encoded images, the one least recently asked for leaving first. What is larger than the memory is not kept.

    Args:
        room: in bytes.

    Attributes:
        used: bytes that are kept, never more than ``room``.
        largest: bytes of the largest that was made.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.used = 0
        self.largest = 0
        self.kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable, encode: Callable[[], Any]) -> Any:
        """What is kept under the key, else what ``encode`` gives: a tensor, or tuples and lists of them."""
        if key in self.kept:
            self.kept.move_to_end(key)
            return self.kept[key][0]
        value = encode()
        size = sum(tensor.untyped_storage().nbytes() for tensor in tensors(value))
        self.largest = max(self.largest, size)
        if size <= self.room:
            while self.used + size > self.room:
                self.forget(next(iter(self.kept)))
            self.kept[key] = value, size
            self.used += size
        return value

    def forget(self, key: Hashable) -> None:
        """Let go of what is kept under the key, if anything is."""
        if key in self.kept:
            self.used -= self.kept.pop(key)[1]

    def clear(self) -> None:
        """Let go of everything."""
        self.kept.clear()
        self.used = self.largest = 0


class EncodedEpisodes:
    """Runs a network on episodes whose images return, each encoded once as long as the memory lasts.

    Every image is encoded alone and every episode decoded alone, so the result is a function of images, masks and
    weights: to the last bit the same whatever is kept, batched or done by another process.

    What is kept is as old as the weights it was made with: call :meth:`clear` before they change.

    Args:
        megabytes: how much is kept at most, per process; 0 keeps nothing.
    """

    def __init__(self, megabytes: int) -> None:
        self.memory = Memory(megabytes * MB)
        self._query: Hashable = None

    def clear(self) -> None:
        """Let go of everything."""
        self.memory.clear()

    def missing(self) -> int:
        """How many MB the largest encoded image takes if that is more than may be kept, else 0."""
        memory = self.memory
        return -(-memory.largest // MB) if 0 < memory.room < memory.largest else 0

    def segment(self, net: QGNet | Matcher, episode: Episode) -> QGNetOutput:
        """The network's output on a batch of test episodes, without level logits.

        A support is known by its name and class, a query by its name; of queries only the last is kept, for episodes
        come grouped by query.

        Args:
            net: in evaluation mode.
            episode: a batch, neither augmented nor inverted.
        """
        return batched([self._one(net, episode, i) for i in range(len(episode.query_name))])

    def _one(self, net: QGNet | Matcher, episode: Episode, i: int) -> QGNetOutput:
        name = ("query", episode.query_name[i])
        if name != self._query:
            self.memory.forget(self._query)
            self._query = name
        image = episode.query_image[i : i + 1]
        query = self.memory.get(name, lambda: net.encode_query(normalise(image)))
        supports: Any = net.stack_shots(
            [self._support(net, episode, i, k) for k in range(len(episode.support_names[i]))]
        )
        return net.decode(query, supports, (image.shape[-2], image.shape[-1]), with_levels=False)

    def _support(self, net: QGNet | Matcher, episode: Episode, i: int, k: int) -> Any:
        image, mask = episode.support_images[i, k : k + 1], episode.support_masks[i, k : k + 1]
        key = (episode.support_names[i][k], int(episode.class_id[i]))
        return self.memory.get(key, lambda: net.encode_support(normalise(image), mask))


def tensors(value: Any) -> Iterable[Tensor]:
    """The tensors in a tensor, or in nested tuples and lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors(part)


def batched(outputs: list[QGNetOutput]) -> QGNetOutput:
    """Outputs of single episodes → one of a batch."""
    priors = [output.prior_map for output in outputs if output.prior_map is not None]
    return QGNetOutput(
        torch.cat([output.logits for output in outputs]),
        torch.cat([output.guided_map for output in outputs]),
        torch.cat(priors) if priors else None,
        [],
        {name: torch.cat([output.margins[name] for output in outputs]) for name in outputs[0].margins},
    )
