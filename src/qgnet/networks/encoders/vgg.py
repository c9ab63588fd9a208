"""VGG as an encoder, as in PFENet's released code, from which QGNet's is a fork."""

from timm.models import FeatureListNet
from torch import nn

from qgnet.networks.encoders.dilation import align_grids
from qgnet.networks.encoders.staged import StagedEncoder


class VGGEncoder(StagedEncoder):
    """A timm VGG, ``vgg16_bn``.

    Its five blocks of convolutions are the stem and the four stages. Each ends with its max-pool except stage 4, which
    has none, and *nothing is dilated*. Pools round up, so that 473 px give 60 positions at stage 2, but 30 at stages 3
    and 4, which have stride 16. Stage 2 is resized to stage 3 for the mid-level feature, and all of QGNet's maps have
    30 positions.
    """

    @staticmethod
    def stage_ends(net: FeatureListNet, name: str) -> list[str]:
        """The second, third and fourth max-pool, and the last module before the fifth."""
        keys = list(net)
        pools = [key for key in keys if isinstance(net[key], nn.MaxPool2d)]
        return [*pools[1:4], keys[keys.index(pools[4]) - 1]]

    def prepare(self) -> tuple[int, int, int, int]:
        """Let pools round up where QGNet takes it; the strides of its stages."""
        if self.dilated:
            align_grids(self.net)
        return 4, 8, 16, 16
