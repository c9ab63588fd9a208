"""Few-shot segmentation without training: the support matched to the query on a frozen encoder's features."""

from collections.abc import Sequence

from torch import Tensor

from qgnet.networks.correspondence import region_map
from qgnet.networks.encoders import Encoder, Features
from qgnet.networks.few_shot import FewShotNetwork, Prediction, to_logits
from qgnet.networks.layers import resize
from qgnet.networks.qgnet import GUIDED
from qgnet.networks.score_maps import (
    SCORE_MAPS,
    SupportPositions,
    are_support_positions,
    compute_score_maps,
    join_shots,
    matching_feature,
    support_positions,
)


class MatchingHead(FewShotNetwork):
    """Segments by one of the `SCORE_MAPS`, foreground where it is above 0, on features of whatever encodes the images.

    Args:
        method: ``nearest``, ``prototype``, ``ridge`` or ``sum``.

    Raises:
        ValueError: if there is no such method.
    """

    supports_type = SupportPositions
    map_names = (GUIDED,)

    def __init__(self, method: str) -> None:
        super().__init__()
        if method not in SCORE_MAPS:
            raise ValueError(f"method is {method!r}; expected one of {', '.join(SCORE_MAPS)}.")
        self.method = method
        self.score_map_names = tuple(SCORE_MAPS)

    def encode_support(self, image: Tensor, mask: Tensor, shared: Features | None = None) -> SupportPositions:
        """The positions of the supports and what they show."""
        return support_positions(self.encode_query(image, shared), mask)

    def stack_shots(self, shots: Sequence[SupportPositions]) -> SupportPositions:
        """The positions of all shots as one set."""
        return join_shots(shots)

    def decode(
        self, query: Tensor, supports: SupportPositions, size: tuple[int, int], with_levels: bool = True
    ) -> Prediction:
        """See :class:`FewShotNetwork`. ``score_maps`` holds those of all methods.

        The one map, ``guided``, is the similarity to the nearest foreground position, min-max normalised.
        """
        score_maps = compute_score_maps(query, supports, self.score_map_names)
        guided_map = region_map(query, supports.features * (supports.foreground > 0)[:, None])
        logits = resize(to_logits(score_maps[self.method]), size)
        return Prediction(logits, {GUIDED: guided_map}, score_maps=score_maps)

    def presence_features(self, query: Tensor, supports: SupportPositions) -> tuple[Tensor, SupportPositions]:
        """What is compared for the masks, too."""
        return query, supports


class MatchingNetwork(MatchingHead):
    """Matches on the features of an encoder.

    Args:
        encoder: any, frozen.
        method: as of :class:`MatchingHead`, with its errors.
    """

    def __init__(self, encoder: Encoder, method: str = "sum") -> None:
        super().__init__(method)
        self.encoder = encoder

    def check_side(self, side: int, what: str) -> None:
        """See :class:`FewShotNetwork`."""
        self.encoder.check_side(side, what)

    @property
    def free_stride(self) -> int:
        """See :class:`FewShotNetwork`; nothing is trained, so any resolution will do."""
        return self.encoder.levels[self.encoder.matching_levels[-1]].stride

    def fits(self, supports: SupportPositions) -> bool:
        """See :class:`FewShotNetwork`."""
        return are_support_positions(supports, self.encoder.matching_channels) and super().fits(supports)

    def shared_features(self, image: Tensor) -> Features:
        """The features of the encoder's matching levels."""
        return self.encoder(image, self.encoder.matching_levels)

    def encode_query(self, image: Tensor, shared: Features | None = None) -> Tensor:
        """(B, C, h, w) float32 of length 1, what is compared."""
        return matching_feature(self.encoder, shared or self.shared_features(image))
