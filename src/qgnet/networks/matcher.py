"""Few-shot segmentation without training: the support matched to the query on a frozen encoder's features."""

import torch
from torch import Tensor, nn

from datamodules.sides import check_side
from qgnet.networks.correspondence import region_map
from qgnet.networks.encoders import Encoder
from qgnet.networks.layers import resize
from qgnet.networks.matching import MARGINS, Positions, margins, matching_feature, of_all_shots, positions
from qgnet.networks.qgnet import QGNetOutput, two_labels


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
        """Segment a batch of episodes; arguments as :meth:`QGNet.forward`.

        Returns:
            ``margins`` holds those of all methods, ``guided_map`` the similarity to the nearest foreground position,
            min-max normalised; there is no prior map and no level.
        """
        for side in query.shape[-2:]:
            check_side(side, "An image side")
        episodes, shots = support_images.shape[:2]
        stages = self.encoder(torch.cat([query, support_images.flatten(0, 1)]))
        features = matching_feature(stages, self.encoder.high_stage)
        found = positions(features[episodes:], support_masks.flatten(0, 1))
        support = of_all_shots(Positions(*(x.unflatten(0, (episodes, shots)) for x in found)))
        answers = margins(features[:episodes], support, self.margins)
        guided_map = region_map(features[:episodes], support.features * (support.foreground > 0)[:, None])
        logits = resize(two_labels(answers[self.method]), (query.shape[-2], query.shape[-1]))
        return QGNetOutput(logits, guided_map, None, [], answers)
