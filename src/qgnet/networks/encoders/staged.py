"""Convolutional networks of timm in four stages, dilated to output stride 8 or not."""

from collections.abc import Collection, Iterator, Sequence

import timm
import torch
from timm.models import FeatureListNet
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import Tensor, nn

from qgnet.networks.encoders.blocks import blocks_of, run_block, run_whole_block, split_last_activations
from qgnet.networks.encoders.contract import IMAGENET, Encoder, Features, Level, MaskAt
from qgnet.networks.encoders.dilation import align_grids, dilate
from qgnet.networks.layers import size_of

STAGES = ("stage1", "stage2", "stage3", "stage4")
DILATION = {"stage3": 2, "stage4": 4}
"""Dilation of all 3x3 convolutions of a stage, its first block included (released code; timm's own rule differs)."""
STRIDES = (4, 8, 16, 32)
"""Positions of a classifier's stages are this many pixels apart."""
DILATED_STRIDES = (4, 8, 8, 8)
"""The same when stages 3 and 4 are dilated."""
LEAST_SIDE = 17
ADVICE = "take a convolutional network in stages, e.g. resnet50, regnety_008, convnext_tiny or vgg16_bn."
"""What to do about a refused one."""


class StagedEncoder(Encoder):
    """A timm CNN made of a flat list of stages at strides 4, 8, 16 and 32, cut after ``high_stage``.

    ``resnet18`` … ``resnet152`` (plain 7x7 stem), ``resnet50s`` … ``resnet152s`` (the deep stem of the released E),
    ConvNeXt, RegNet, EfficientNet, MobileNet, DenseNet, ….

    Its levels are ``stage1`` to the last one, whose output is the high-level feature; the mid-level feature is made of
    stages 3 and 2. Dilated, stages 3 and 4 stay at stride 8, and a side of 8n + 1 pixels gives n + 1 positions there.
    A stage's blocks are ``stage2.0``, ``stage2.1``, …: the modules that it is a chain of, as far as they have its grid;
    of a ResNet before their last activation, as in HSNet's released code (``model/base/feature.py``).

    Args:
        name: of the timm model.
        high_stage: the last stage, 3 or 4.
        dilated: see :class:`Encoder`.

    Raises:
        ValueError: if timm has no such model, it is not a flat list of stages at these strides, or its features do
            not come out as described.
    """

    net: FeatureListNet

    def __init__(self, name: str, high_stage: int = 4, dilated: bool = True) -> None:
        super().__init__(name, high_stage, dilated)
        if high_stage not in (3, 4):
            raise ValueError(f"high_stage is {high_stage}; an encoder is cut after stage 3 or 4.")
        if name not in timm.list_models():
            raise ValueError(f"timm has no model {name!r}; `timm.list_models()` lists those it has.")
        self.mean, self.std = _normalisation(name)
        self.net = _flat_list(name)
        self._stages = _split(self.net, self.stage_ends(self.net, name)[:high_stage])
        for key in set(self.net) - {key for keys in self._stages.values() for key in keys}:
            del self.net[key]
        split_last_activations(self.net)
        strides = dict(zip(STAGES, self.prepare(), strict=True))
        self.levels = {stage: Level(0, strides[stage]) for stage in self._stages}
        self.levels, self._blocks = self._measure((33, 65) if dilated else (32, 64))
        self.high_level, before = STAGES[high_stage - 1], STAGES[high_stage - 2]
        self.mid_levels = ("stage3", "stage2")
        self.matching_levels = (self.high_level, before)

    def prepare(self) -> tuple[int, int, int, int]:
        """Dilate and align the network in place if it is to be dilated; the strides of its stages."""
        if not self.dilated:
            return STRIDES
        align_grids(self.net)
        for stage, dilation in DILATION.items():
            for key in self._stages.get(stage, ()):
                dilate(self.net[key], dilation)
        return DILATED_STRIDES

    @staticmethod
    def stage_ends(net: FeatureListNet, name: str) -> list[str]:
        """Keys of the modules that give the strides 4, 8, 16 and 32."""
        keys = {info["reduction"]: info["module"].replace(".", "_") for info in net.feature_info.info}
        if not set(STRIDES) <= set(keys):
            raise ValueError(f"{name} has stages at strides {sorted(keys)} instead of 4, 8, 16 and 32; {ADVICE}")
        return [keys[stride] for stride in STRIDES]

    def _measure(self, size: tuple[int, int]) -> tuple[dict[str, Level], dict[str, dict[str, Level]]]:
        """The levels and their blocks with their channels, found with a small image.

        Raises:
            ValueError: if a grid is not what it should be.
        """
        self.eval()
        try:
            with torch.no_grad():
                features = self(torch.zeros(1, 3, *size), [*self.levels, *self._chain_names()])
        except Exception as error:  # a fixed image size, stages that are not a chain: each raises its own kind
            raise ValueError(
                f"{self.name} cannot run stage by stage on {size[0]} x {size[1]} px ({type(error).__name__}); {ADVICE}"
            ) from None
        self.train()
        blocks: dict[str, dict[str, Level]] = {level: {} for level in self.levels}
        for name, feature in features.items():
            level, found = stage_of(name), size_of(feature)
            expected, channels = self.grid(level, size), feature.shape[1]
            if name != level and found == expected:
                blocks[level][name] = Level(channels, self.levels[level].stride)
            elif name == level and found != expected:
                raise ValueError(
                    f"Stage {level[-1]} of {self.name} gives {found} positions for an image of {size}, instead of "
                    f"{expected}; {ADVICE}"
                )
        return {x: Level(features[x].shape[1], self.levels[x].stride) for x in self.levels}, blocks

    def _chain_names(self) -> list[str]:
        """Names of all modules that the stages are chains of."""
        return [f"{stage}.{i}" for stage in self._stages for i, _ in enumerate(self._chain(stage))]

    def _chain(self, stage: str) -> Iterator[nn.Module]:
        return blocks_of(self.net[key] for key in self._stages[stage])

    def blocks_of(self, level: str) -> dict[str, Level]:
        """See :meth:`Encoder.blocks_of`."""
        return self._blocks[level]

    def run_stage(self, stage: str, x: Tensor, wanted: Collection[str] = (), found: Features | None = None) -> Tensor:
        """One stage alone, on the output of the one before; what is wanted of its blocks is put into ``found``."""
        for i, block in enumerate(self._chain(stage)):
            name = f"{stage}.{i}"
            if found is not None and name in wanted:
                found[name], x = run_block(block, x)
            else:
                x = run_whole_block(block, x)
        return x

    def forward(self, images: Tensor, levels: Sequence[str]) -> Features:
        """See :meth:`Encoder.forward`; stages beyond the last one asked for are not run."""
        features: Features = {}
        x = self.normalised(images)
        for stage in STAGES[: 1 + max(STAGES.index(stage_of(level)) for level in levels)]:
            x = self.run_stage(stage, x, levels, features)
            if stage in levels:
                features[stage] = x
        return features

    def high(self, features: Features) -> Tensor:
        """See :meth:`Encoder.high`."""
        if self.high_level in features:
            return features[self.high_level]
        return self.run_stage(self.high_level, features[self.matching_levels[1]])

    def masked_high(self, features: Features, mask: MaskAt) -> Tensor:
        """The last stage of the masked stage before it, masked again (released code)."""
        before = features[self.matching_levels[1]]
        high = self.run_stage(self.high_level, before * mask(size_of(before)))
        return high * mask(size_of(high))

    def accepts_side(self, side: int) -> bool:
        """Whether a side is 8n + 1: then the grids of all strides line up with the image's corners."""
        return side >= LEAST_SIDE and side % 8 == 1

    def grid(self, level: str, size: tuple[int, int]) -> tuple[int, int]:
        """Each side over the stride, rounded up."""
        height, width = (-(-side // self.levels[level].stride) for side in size)
        return height, width

    def adapt_weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Timm's weights. The encoder lists the children of some containers: ``stages.0.x`` is its ``stages_0.x``."""
        own = set(self.net.state_dict())

        def own_key(key: str) -> str:
            flat = key.replace(".", "_", 1)
            return flat if flat in own else key

        with torch.device("meta"):
            beyond_the_cut = {own_key(key) for key in timm.create_model(self.name).state_dict()} - own
        state = {own_key(key): value for key, value in state.items()}
        return {key: value for key, value in state.items() if key not in beyond_the_cut}


def stage_of(level: str) -> str:
    """The stage of a level or a block."""
    return level.partition(".")[0]


Colour = tuple[float, float, float]


def _normalisation(name: str) -> tuple[Colour, Colour]:
    """Mean and standard deviation of the images that timm's weights of this model were trained on, else ImageNet's."""
    known = timm.get_pretrained_cfg(name)
    return (tuple(known.mean), tuple(known.std)) if known else IMAGENET


def _flat_list(name: str) -> FeatureListNet:
    """The timm model as a flat list of modules, without its classifier."""
    try:
        net = timm.create_model(name, features_only=True)
        if isinstance(net, (EfficientNetFeatures, MobileNetV3Features)):  # timm's default for these two families
            net = timm.create_model(
                name, features_only=True, feature_cfg={"feature_cls": "list", "flatten_sequential": True}
            )
    except (RuntimeError, AssertionError):  # timm cannot give features of every architecture
        net = None
    if not isinstance(net, FeatureListNet):
        raise ValueError(f"{name} is not a plain list of stages; {ADVICE}")
    return net


def _split(net: FeatureListNet, ends: list[str]) -> dict[str, list[str]]:
    """Stage → keys of its children, in order; the stem belongs to stage 1."""
    keys = list(net)
    bounds = [0, *(keys.index(end) + 1 for end in ends)]
    return {STAGES[i]: keys[bounds[i] : bounds[i + 1]] for i in range(len(ends))}
