"""Few-shot segmentation without training: the support matched to the query on a frozen encoder's features."""

import torch
from torch import Tensor, nn

from qgnet.networks.correspondence import region_map
from qgnet.networks.encoders import Encoder
from qgnet.networks.layers import resize
from qgnet.networks.matching import MARGINS, Positions, margins, matching_feature, of_all_shots, positions
from qgnet.networks.qgnet import QGNetOutput, check_side, two_labels


class Matcher(nn.Module):
    """Segments by one of the `MARGINS`: foreground where it is above 0.

    Args:
        encoder: any, frozen.
        method: ``nearest``, ``prototype``, ``ridge`` or ``sum``.

    Raises:
        ValueError: if there is no such method.
    """

    def __init__(self, encoder: Encoder, method: str = "sum") -> None:
        super().__init__()
        if method not in MARGINS:
            raise ValueError(f"method is {method!r}; expected one of {', '.join(MARGINS)}.")
        self.encoder = encoder
        self.method = method
        self.margins = tuple(MARGINS)

    def forward(self, query: Tensor, support_images: Tensor, support_masks: Tensor) -> QGNetOutput:
        """Segment a batch of episodes; arguments as :meth:`QGNet.forward`."""
        check_side(*query.shape[-2:])
        episodes, shots = support_images.shape[:2]
        features = self.encode_query(torch.cat([query, support_images.flatten(0, 1)]))
        found = positions(features[episodes:], support_masks.flatten(0, 1))
        support = Positions(*(x.unflatten(0, (episodes, shots)) for x in found))
        return self.decode(features[:episodes], support, (query.shape[-2], query.shape[-1]))

    def encode_query(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) normalised floats → features (B, C, h, w), all that is kept of a query."""
        return matching_feature(self.encoder(image), self.encoder.high_stage)

    def encode_support(self, image: Tensor, mask: Tensor) -> Positions:
        """(B, 3, H, W) normalised floats and their masks (B, H, W) → all that is kept of supports."""
        return positions(self.encode_query(image), mask)

    def decode(self, query: Tensor, supports: Positions, size: tuple[int, int]) -> QGNetOutput:
        """The prediction at ``size`` for B encoded queries and their supports (B, K, …), or (1, K, …) for all.

        Returns:
            ``margins`` holds those of all methods, ``guided_map`` the similarity to the nearest foreground position,
            min-max normalised; there is no prior map and no level.
        """
        support = of_all_shots(supports)
        answers = margins(query, support, self.margins)
        foreground = support.features * (support.foreground > 0)[:, None]
        guided_map = region_map(query, foreground.expand(len(query), -1, -1))
        return QGNetOutput(resize(two_labels(answers[self.method]), size), guided_map, None, [], answers)
