"""A network on its device, with an optional cache of encoded images."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from qgnet.common.digest import sha256_of
from qgnet.inference.presence import Calibration, presence_evidence
from qgnet.inference.tiling import ClassMaps
from qgnet.networks.few_shot import FewShotNetwork
from qgnet.networks.nested_tensors import concatenate
from qgnet.tasks.base import normalise
from qgnet.tasks.feature_cache import FeatureCache


class EncodingNetwork:
    """Encodes square uint8 images and compares them.

    Args:
        net: the network, on the CPU.

    Attributes:
        device: the device of the network.
        cache: cache of encoded images; None caches nothing.
    """

    def __init__(self, net: FewShotNetwork) -> None:
        self.net = net
        self.device = torch.device("cpu")
        self.cache: FeatureCache | None = None

    def to(self, device: str | torch.device) -> None:
        """Move the network and clear the cache. Raises torch's errors if that fails."""
        if self.cache is not None:
            self.cache.clear()
        self.device = torch.device(device)
        self.net.to(self.device)

    def support_and_query(self, image: Tensor, mask: Tensor) -> tuple[Any, Any]:
        """Encode a support, image (3, S, S) and mask (S, S), as a support, and its image as a query."""
        square = normalise(image[None].to(self.device))
        shared = cache(lambda: self.net.shared_features(square))
        support = self._keep((image, mask), lambda: self.net.encode_support(square, mask[None], shared()))
        return support, self._keep((image,), lambda: self.net.encode_query(square, shared()))

    def queries(self, squares: Tensor) -> Any:
        """Encode squares (T, 3, S, S) as queries."""

        def encode(some: Tensor) -> Any:
            return self.net.encode_query(normalise(some.to(self.device)))

        if self.cache is None:
            return encode(squares)
        return concatenate([self._keep((one[0],), partial(encode, one)) for one in squares.split(1)])

    def compare(
        self, query: Any, supports: Any, side: int, inside: Tensor, calibration: Calibration | None
    ) -> ClassMaps:
        """The maps of encoded squares for stacked supports, on the network's device.

        Args:
            query: result of :meth:`queries`.
            supports: supports stacked for one query.
            side: side of the squares, in pixels.
            inside: (T, S, S) bool, False for padding.
            calibration: calibration of the scores; None computes no evidence.

        Raises:
            InputError: if the calibration belongs to another network.
        """
        output = self.net.decode(query, supports, (side, side), with_levels=False)
        score_maps = output.logits[:, 1] - output.logits[:, 0]
        evidence = presence_evidence(self.net, calibration, query, supports, score_maps, inside)
        return ClassMaps(score_maps, {name: values[:, 0] for name, values in output.maps.items()}, evidence)

    def _keep(self, pixels: tuple[Tensor, ...], encode: Callable[[], Any]) -> Any:
        if self.cache is None:
            return encode()
        return self.cache.get(sha256_of(*(part.numpy() for part in pixels)), encode)
