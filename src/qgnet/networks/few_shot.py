"""What every few-shot segmentation network offers, and all that tests, pages, exports and caches may know of it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qgnet.networks.nested_tensors import all_tensors
from qgnet.networks.score_maps import SupportPositions


class Prediction(NamedTuple):
    """What a network predicts of B queries.

    Attributes:
        logits: (B, 2, H, W), background and foreground, at the size asked for.
        maps: name → (B, 1, h, w) in [0, 1], the network's own region maps: drawn, kept and shown under their names.
        level_logits: (B, 2, h_l, w_l) each, for an auxiliary loss; empty where no loss is taken.
        score_maps: name → (B, 1, h, w), above 0 where support matching says foreground; empty without them.
    """

    logits: Tensor
    maps: dict[str, Tensor] = {}  # noqa: RUF012  (never written to)
    level_logits: Sequence[Tensor] = ()
    score_maps: dict[str, Tensor] = {}  # noqa: RUF012


class FewShotNetwork(nn.Module, ABC):
    """Segments in a query image what a few masks show in support images.

    Supports and queries are encoded apart, since encoders are frozen and test episodes return to the same images: each
    is encoded once and only :meth:`decode` runs per episode. What is encoded is opaque: tensors, or named tuples, lists
    and None around them (see ``networks/nested_tensors.py``). Its first dimension is the batch.

    Images are (B, 3, H, W) floats normalised by ImageNet's mean and standard deviation; masks are (B, H, W) in
    {0, 1, 255}, of which 1 alone is foreground and 255 counts for nothing. Support masks may lie on the host while the
    images are on a GPU: what is counted of them there need not be waited for.

    Attributes:
        supports_type: named tuple that :meth:`stack_shots` returns.
        map_names: of the prediction's maps.
        score_map_names: of the prediction's score maps; a test scores each of them, too.
    """

    supports_type: type[Any]
    map_names: tuple[str, ...] = ()
    score_map_names: tuple[str, ...] = ()

    @abstractmethod
    def encode_query(self, image: Tensor, shared: Any = None) -> Any:
        """What depends on query images alone; ``shared`` is what :meth:`shared_features` gives, if it is known."""

    @abstractmethod
    def encode_support(self, image: Tensor, mask: Tensor, shared: Any = None) -> Any:
        """What depends on support images and their masks alone; ``shared`` as for a query."""

    @abstractmethod
    def stack_shots(self, shots: Sequence[Any]) -> Any:
        """K encoded supports of B episodes each → what :meth:`decode` takes for these B episodes."""

    @abstractmethod
    def decode(self, query: Any, supports: Any, size: tuple[int, int], with_levels: bool = True) -> Prediction:
        """The prediction at ``size`` for B encoded queries and their stacked supports, B or one for all.

        ``with_levels`` False leaves out the level logits, which only a loss needs.
        """

    @abstractmethod
    def check_side(self, side: int, what: str) -> None:
        """InputError, with the nearest sides that can be taken, for a side of ``what`` that cannot be taken."""

    @property
    def free_stride(self) -> int | None:
        """Pixels between two of its positions, of a network that works at any resolution alike.

        None of one that is used at the resolution that it was trained at.
        """
        return None

    def shared_features(self, image: Tensor) -> Any:
        """What an image's encodings as a query and as a support have in common; None if that is nothing."""
        return None

    def fits(self, supports: Any) -> bool:
        """Whether stacked supports of one episode, as a file holds them, can be of this network: shapes, finite."""
        return all(bool(torch.isfinite(tensor).all()) for tensor in all_tensors(supports))

    def presence_features(self, query: Any, supports: Any) -> tuple[Tensor, SupportPositions] | None:
        """What a presence score compares: query features (B, C, h, w) of length 1, and the supports' positions.

        None of a network that has no such features; its scores are not calibrated.
        """
        return None

    def forward(self, query: Tensor, support_images: Tensor, support_masks: Tensor) -> Prediction:
        """Segment a batch of episodes.

        Args:
            query: (B, 3, H, W) normalised floats.
            support_images: (B, K, 3, H, W) normalised floats.
            support_masks: (B, K, H, W) in {0, 1, 255}.

        Raises:
            InputError: if the network does not take images of this size.
        """
        height, width = query.shape[-2:]
        for side in (height, width):
            self.check_side(side, "An image side")
        encoded, shots = self.encode_episodes(query, support_images, support_masks)
        return self.decode(encoded, self.stack_shots(shots), (height, width))

    def encode_episodes(self, query: Tensor, support_images: Tensor, support_masks: Tensor) -> tuple[Any, list[Any]]:
        """The encoded queries, and the supports shot by shot; a network may encode both in one pass."""
        shots = zip(support_images.unbind(1), support_masks.unbind(1), strict=True)
        return self.encode_query(query), [self.encode_support(image, mask) for image, mask in shots]


def to_logits(score_map: Tensor) -> Tensor:
    """(B, 1, h, w) foreground minus background → logits (B, 2, h, w)."""
    return torch.cat([-score_map / 2, score_map / 2], dim=1)
