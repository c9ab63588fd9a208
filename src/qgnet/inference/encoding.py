"""A network on its device, which may keep what it makes of images."""

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
    """Encodes squares of images, uint8, and compares them.

    Args:
        net: on the CPU.

    Attributes:
        device: where it computes.
        cache: of what was encoded; None: nothing is kept.
    """

    def __init__(self, net: FewShotNetwork) -> None:
        self.net = net
        self.device = torch.device("cpu")
        self.cache: FeatureCache | None = None

    def to(self, device: str | torch.device) -> None:
        """Move it; what it kept is forgotten. torch's own errors if that cannot be."""
        if self.cache is not None:
            self.cache.clear()
        self.device = torch.device(device)
        self.net.to(self.device)

    def support_and_query(self, image: Tensor, mask: Tensor) -> tuple[Any, Any]:
        """A support, (3, S, S) and (S, S), as the network takes it as a support, and its image as a query."""
        square = normalise(image[None].to(self.device))
        shared = cache(lambda: self.net.shared_features(square))
        support = self._keep((image, mask), lambda: self.net.encode_support(square, mask[None], shared()))
        return support, self._keep((image,), lambda: self.net.encode_query(square, shared()))

    def queries(self, squares: Tensor) -> Any:
        """(T, 3, S, S) as the network takes queries."""

        def encode(some: Tensor) -> Any:
            return self.net.encode_query(normalise(some.to(self.device)))

        if self.cache is None:
            return encode(squares)
        return concatenate([self._keep((one[0],), partial(encode, one)) for one in squares.split(1)])

    def compare(
        self, query: Any, supports: Any, side: int, inside: Tensor, calibration: Calibration | None
    ) -> ClassMaps:
        """What the network says of encoded squares of ``side`` px by stacked supports, on its device.

        Args:
            query: of :meth:`queries`.
            supports: stacked for one query.
            side: of the squares, in pixels.
            inside: (T, S, S) bool, where they are not padding.
            calibration: of its scores; None: no evidence is wanted.

        Raises:
            InputError: if the calibration is of another network.
        """
        output = self.net.decode(query, supports, (side, side), with_levels=False)
        score_maps = output.logits[:, 1] - output.logits[:, 0]
        evidence = presence_evidence(self.net, calibration, query, supports, score_maps, inside)
        return ClassMaps(score_maps, {name: values[:, 0] for name, values in output.maps.items()}, evidence)

    def _keep(self, pixels: tuple[Tensor, ...], encode: Callable[[], Any]) -> Any:
        if self.cache is None:
            return encode()
        return self.cache.get(sha256_of(*(part.numpy() for part in pixels)), encode)
