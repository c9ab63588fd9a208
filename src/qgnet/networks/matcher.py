"""Few-shot segmentation without training: the support matched to the query on a frozen encoder's features."""

from torch import Tensor, nn

from qgnet.common.settings import check_side
from qgnet.networks.correspondence import region_map
from qgnet.networks.encoders import Encoder
from qgnet.networks.layers import resize
from qgnet.networks.matching import MARGINS, Positions, margins, matching_feature, of_all_shots, positions
from qgnet.networks.qgnet import QGNetOutput, Stages, two_labels


class Matching(nn.Module):
    """Segments by one of the `MARGINS`, foreground where it is above 0, whatever encodes the images.

    Args:
        method: ``nearest``, ``prototype``, ``ridge`` or ``sum``.

    Raises:
        ValueError: if there is no such method.
    """

    def __init__(self, method: str) -> None:
        super().__init__()
        if method not in MARGINS:
            raise ValueError(f"method is {method!r}; expected one of {', '.join(MARGINS)}.")
        self.method = method
        self.margins = tuple(MARGINS)

    def encode_query(self, image: Tensor, stages: Stages | None = None) -> Tensor:
        """(B, 3, H, W) normalised floats → (B, C, h, w) float32 of length 1, what is compared; of each subclass."""
        raise NotImplementedError

    def encode_support(self, image: Tensor, mask: Tensor, stages: Stages | None = None) -> Positions:
        """(B, 3, H, W) normalised floats and their masks (B, H, W) → the positions and what they show."""
        return positions(self.encode_query(image, stages), mask)

    stack_shots = staticmethod(of_all_shots)

    def decode(
        self, query: Tensor, supports: Positions, size: tuple[int, int], with_levels: bool = True
    ) -> QGNetOutput:
        """The answer at ``size`` for B encoded queries and their supports by :meth:`stack_shots`, B or one for all.

        Returns:
            ``margins`` holds those of all methods, ``guided_map`` the similarity to the nearest foreground position,
            min-max normalised; there is no prior map and no level, whatever ``with_levels``.
        """
        answers = margins(query, supports, self.margins)
        guided_map = region_map(query, supports.features * (supports.foreground > 0)[:, None])
        logits = resize(two_labels(answers[self.method]), size)
        return QGNetOutput(logits, guided_map, None, [], answers)


class Matcher(Matching):
    """Matches on the features of an encoder.

    Args:
        encoder: any, frozen.
        method: as of :class:`Matching`, with its errors.
    """

    def __init__(self, encoder: Encoder, method: str = "sum") -> None:
        super().__init__(method)
        self.encoder = encoder

    def forward(self, query: Tensor, support_images: Tensor, support_masks: Tensor) -> QGNetOutput:
        """Segment a batch of episodes; arguments and result as :meth:`QGNet.forward` and :meth:`decode`."""
        shots = zip(support_images.unbind(1), support_masks.unbind(1), strict=True)
        supports = self.stack_shots([self.encode_support(image, mask) for image, mask in shots])
        return self.decode(self.encode_query(query), supports, (query.shape[-2], query.shape[-1]))

    def stages(self, image: Tensor) -> Stages:
        """(B, 3, H, W) normalised floats → the encoder's features, the same for a query and a support."""
        return self.encoder(image)

    def encode_query(self, image: Tensor, stages: Stages | None = None) -> Tensor:
        """(B, 3, H, W) normalised floats, with :meth:`stages` if known → (B, C, h, w) float32 of length 1.

        Raises:
            InputError: if a side is not 8n + 1.
        """
        for side in image.shape[-2:]:
            check_side(side, "An image side")
        return matching_feature(stages or self.stages(image), self.encoder.high_stage)
