"""Encode each image of an evaluation once: what a network keeps of images, in a bounded memory."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from torch import Tensor

from datamodules.episodes.episode import Episode
from qgnet.networks.few_shot import FewShotNetwork, Prediction
from qgnet.networks.nested_tensors import all_tensors, concatenate
from qgnet.tasks.base import normalise

MB = 2**20


class FeatureCache:
    """Encoded images, the one least recently asked for leaving first. What is larger than the memory is not kept.

    Args:
        max_bytes: of all that is cached.

    Attributes:
        kept: key → what is kept, and its bytes.
        low_priority: likewise, of what is cached only where nothing else needs the memory.
        used: bytes that both take, never more than ``max_bytes``.
        largest: bytes of the largest that was made, spare ones left out.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used = 0
        self.largest = 0
        self.kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self.low_priority: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable, encode: Callable[[], Any], low_priority: bool = False) -> Any:
        """What is kept under the key, else what ``encode`` gives: a tensor, or tuples, lists and dicts of them."""
        place = self.low_priority if low_priority else self.kept
        if key in place:
            place.move_to_end(key)
            return place[key][0]
        value = encode()
        size = sum(tensor.untyped_storage().nbytes() for tensor in all_tensors(value))
        self.largest = self.largest if low_priority else max(self.largest, size)
        least = sum(bytes_of for _, bytes_of in self.kept.values()) if low_priority else 0
        if least + size <= self.max_bytes:
            while self.used + size > self.max_bytes:
                self.forget(next(iter(self.low_priority or self.kept)))
            place[key] = value, size
            self.used += size
        return value

    def forget(self, key: Hashable) -> None:
        """Let go of what is kept under the key, if anything is."""
        for place in (self.kept, self.low_priority):
            if key in place:
                self.used -= place.pop(key)[1]

    def clear(self) -> None:
        """Let go of everything."""
        self.kept.clear()
        self.low_priority.clear()
        self.used = self.largest = 0


class CachedInference:
    """Runs a network on episodes whose images return, each encoded once as long as the memory lasts.

    Every image is encoded alone and every episode decoded alone, so the result is a function of images, masks and
    weights: to the last bit the same whatever is kept, batched or done by another process.

    What is kept is as old as the weights it was made with: call :meth:`clear` before they change.

    Args:
        megabytes: how much is kept at most, per process; 0 keeps nothing.
    """

    def __init__(self, megabytes: int) -> None:
        self.memory = FeatureCache(megabytes * MB)
        self._query: Hashable = None

    def clear(self) -> None:
        """Let go of everything."""
        self.memory.clear()

    def missing(self) -> int:
        """How many MB the largest encoded image takes if that is more than may be kept, else 0."""
        memory = self.memory
        return -(-memory.largest // MB) if 0 < memory.max_bytes < memory.largest else 0

    def segment(self, net: FewShotNetwork, episode: Episode) -> Prediction:
        """The network's output on a batch of test episodes, without level logits.

        A support is known by its name and class, a query by its name; of queries only the last is kept, for episodes
        come grouped by query. What an image has in common as a query and as a support is kept where there is room.

        Args:
            net: in evaluation mode.
            episode: a batch, neither augmented nor inverted.
        """
        return concatenate([self._one(net, episode, i) for i in range(len(episode.query_name))])

    def _one(self, net: FewShotNetwork, episode: Episode, i: int) -> Prediction:
        name = ("query", episode.query_name[i])
        if name != self._query:
            self.memory.forget(self._query)
            self._query = name
        image = episode.query_image[i : i + 1]
        query = self.memory.get(
            name, lambda: net.encode_query(normalise(image), self._shared(net, episode.query_name[i], image))
        )
        supports: Any = net.stack_shots(
            [self._support(net, episode, i, k) for k in range(len(episode.support_names[i]))]
        )
        return net.decode(query, supports, (image.shape[-2], image.shape[-1]), with_levels=False)

    def _support(self, net: FewShotNetwork, episode: Episode, i: int, k: int) -> Any:
        image, mask = episode.support_images[i, k : k + 1], episode.support_masks[i, k : k + 1]
        name = episode.support_names[i][k]
        return self.memory.get(
            ("support", name, int(episode.class_id[i])),
            lambda: net.encode_support(normalise(image), mask, self._shared(net, name, image)),
        )

    def _shared(self, net: FewShotNetwork, name: str, image: Tensor) -> Any:
        return self.memory.get(("shared", name), lambda: net.shared_features(normalise(image)), low_priority=True)
