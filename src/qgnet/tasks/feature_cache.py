"""Encode each image of an evaluation once: a feature cache of limited size."""

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
    """Cache of image features. The least recently used are evicted first; those larger than the cache are not kept.

    Args:
        max_bytes: most bytes of the whole cache.

    Attributes:
        entries: key → cached features and their bytes.
        low_priority: the same for features that are cached only while no others need the memory.
        used: bytes of both, never more than ``max_bytes``.
        largest: bytes of the largest features that were computed, without those of low priority.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used = 0
        self.largest = 0
        self.entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self.low_priority: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable, encode: Callable[[], Any], low_priority: bool = False) -> Any:
        """The cached features of a key, else the result of ``encode``: a tensor, or tuples, lists and dicts of them."""
        entries = self.low_priority if low_priority else self.entries
        if key in entries:
            entries.move_to_end(key)
            return entries[key][0]
        value = encode()
        size = sum(tensor.untyped_storage().nbytes() for tensor in all_tensors(value))
        self.largest = self.largest if low_priority else max(self.largest, size)
        not_evictable = sum(size_of_one for _, size_of_one in self.entries.values()) if low_priority else 0
        if not_evictable + size <= self.max_bytes:
            while self.used + size > self.max_bytes:
                self.evict(next(iter(self.low_priority or self.entries)))
            entries[key] = value, size
            self.used += size
        return value

    def evict(self, key: Hashable) -> None:
        """Remove the cached features of a key, if there are any."""
        for entries in (self.entries, self.low_priority):
            if key in entries:
                self.used -= entries.pop(key)[1]

    def clear(self) -> None:
        """Remove everything."""
        self.entries.clear()
        self.low_priority.clear()
        self.used = self.largest = 0


class CachedInference:
    """Runs a network on episodes with repeated images, and encodes each image once if the cache is large enough.

    Every image is encoded separately, and every episode is decoded separately. The result depends only on images, masks
    and weights; it is the same to the last bit for any cache, batch and number of processes.

    Cached features belong to the weights that computed them: call :meth:`clear` before the weights change.

    Args:
        megabytes: size of the cache per process; 0 caches nothing.
    """

    def __init__(self, megabytes: int) -> None:
        self.cache = FeatureCache(megabytes * MB)
        self.clear = self.cache.clear
        self._query: Hashable = None

    def needed_mb(self) -> int:
        """Size of the largest encoded image in MB if it does not fit into the cache, else 0."""
        cache = self.cache
        return -(-cache.largest // MB) if 0 < cache.max_bytes < cache.largest else 0

    def segment(self, net: FewShotNetwork, episode: Episode) -> Prediction:
        """The network's output on a batch of test episodes, without level logits.

        The key of a support is its name and class, and that of a query its name. Only the last query is cached, because
        episodes are grouped by query. Features that queries and supports share have low priority.

        Args:
            net: in evaluation mode.
            episode: a batch without augmentation and inversion.
        """
        return concatenate([self._one(net, episode, i) for i in range(len(episode.query_name))])

    def _one(self, net: FewShotNetwork, episode: Episode, i: int) -> Prediction:
        name, image = episode.query_name[i], episode.query_image[i : i + 1]
        if ("query", name) != self._query:
            self.cache.evict(self._query)
            self._query = ("query", name)
        query = self.cache.get(
            self._query, lambda: net.encode_query(normalise(image), self._shared_features(net, name, image))
        )
        supports = net.stack_shots([self._support(net, episode, i, k) for k in range(len(episode.support_names[i]))])
        return net.decode(query, supports, (image.shape[-2], image.shape[-1]), with_levels=False)

    def _support(self, net: FewShotNetwork, episode: Episode, i: int, k: int) -> Any:
        image, mask = episode.support_images[i, k : k + 1], episode.support_masks[i, k : k + 1]
        name = episode.support_names[i][k]
        return self.cache.get(
            ("support", name, int(episode.class_id[i])),
            lambda: net.encode_support(normalise(image), mask, self._shared_features(net, name, image)),
        )

    def _shared_features(self, net: FewShotNetwork, name: str, image: Tensor) -> Any:
        return self.cache.get(("shared", name), lambda: net.shared_features(normalise(image)), low_priority=True)
