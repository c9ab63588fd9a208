"""Convolutional encoders at output stride 8, frozen or not: QGNet's E (supervised) and P (the prior extractor)."""

import timm
import torch
from timm.models import FeatureListNet
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import Tensor, nn

from qgnet.networks.layers import constants

DILATION = {3: 2, 4: 4}
"""Dilation of all 3x3 convolutions of a stage, its first block included (released code; timm's own rule differs)."""

STRIDES = {1: 4, 2: 8, 3: 16, 4: 32}
"""Positions of a classifier's stages are this many pixels apart."""

DILATED_STRIDES = {1: 4, 2: 8, 3: 8, 4: 8}
"""The same when stages 3 and 4 are dilated."""

VGG_STRIDES = {1: 4, 2: 8, 3: 16, 4: 16}
"""The same of VGG, see :class:`Encoder`."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation, RGB in [0, 1], of the images that every network here takes."""

POOLS = (nn.MaxPool2d, nn.AvgPool2d)

TAKE = "take a convolutional network in stages, e.g. resnet50, regnety_008, convnext_tiny or vgg16_bn."
"""What to do about a refused one."""


class Encoder(nn.Module):
    """A timm CNN cut after ``high_stage``, whose stages 2, 3, … are read out.

    Args:
        name: a timm model made of a flat list of stages at strides 4, 8, 16 and 32: ``resnet18`` … ``resnet152``
            (plain 7x7 stem), ``resnet50s`` … ``resnet152s`` (the deep stem of the released E), ConvNeXt, RegNet,
            EfficientNet, MobileNet, DenseNet, …; or a VGG, ``vgg16_bn``.
        high_stage: the last stage, 3 or 4. Its output is the high-level feature; the mid-level feature is
            made of stages 2 and 3.
        dilated: keep stages 3 and 4 at stride 8 by dilation, and make sides of 8n + 1 line up at each stride.
            False leaves the classifier's strides (pretraining); the parameters are the same.

    VGG follows PFENet's released code, from which QGNet's is a fork: its five blocks of convolutions are the stem and
    the four stages, each ends with its max-pool except stage 4, which has none, and *nothing is dilated*. Pools round
    up, so that 473 px give 60 positions at stage 2, but 30 at stages 3 and 4, which have stride 16. Stage 2 is resized
    to stage 3 for the mid-level feature, and all of QGNet's maps have 30 positions.

    Weights are random until loaded; see ``qgnet.weights.store``.

    Attributes:
        channels: of each stage.
        mean: of RGB in [0, 1], by which the weights want images to be normalised; timm knows it of each of its models.
        std: standard deviation, the same.

    Raises:
        ValueError: if timm has no such model, it is not a flat list of stages at these strides, or its features do
            not come out as described.
    """

    def __init__(self, name: str = "resnet50", high_stage: int = 4, dilated: bool = True) -> None:
        super().__init__()
        if high_stage not in (3, 4):
            raise ValueError(f"high_stage is {high_stage}; an encoder is cut after stage 3 or 4.")
        if name not in timm.list_models():
            raise ValueError(f"timm has no model {name!r}; `timm.list_models()` lists those it has.")
        self.name = name
        self.high_stage = high_stage
        self.frozen = False
        self.mean, self.std = _normalisation(name)
        self.net = _flat_list(name)
        is_vgg = name.startswith("vgg")
        ends = _vgg_ends(self.net) if is_vgg else _stage_ends(self.net, name)
        self._stages = _split(self.net, ends[:high_stage])
        for key in set(self.net) - {key for keys in self._stages.values() for key in keys}:
            del self.net[key]
        if dilated:
            align(self.net)
        if dilated and not is_vgg:
            for stage, dilation in DILATION.items():
                for key in self._stages.get(stage, ()):
                    dilate(self.net[key], dilation)
        strides = VGG_STRIDES if is_vgg else DILATED_STRIDES if dilated else STRIDES
        self.channels = self._try((33, 65) if dilated else (32, 64), strides)

    def _try(self, size: tuple[int, int], strides: dict[int, int]) -> dict[int, int]:
        """Channels of each stage, found with a small image; ValueError if a stage's size is not what it should be."""
        self.eval()
        try:
            with torch.no_grad():
                features = self(torch.zeros(1, 3, *size))
        except Exception as error:  # a fixed image size, stages that are not a chain: each raises its own kind
            raise ValueError(
                f"{self.name} does not run stage by stage on {size[0]} x {size[1]} px ({type(error).__name__}); {TAKE}"
            ) from None
        self.train()
        for stage, feature in features.items():
            found, expected = tuple(feature.shape[2:]), tuple(-(-side // strides[stage]) for side in size)
            if found != expected:
                raise ValueError(
                    f"Stage {stage} of {self.name} gives {found} positions for an image of {size}, instead of "
                    f"{expected}; {TAKE}"
                )
        return {stage: feature.shape[1] for stage, feature in features.items()}

    def run_stage(self, stage: int, x: Tensor) -> Tensor:
        """One stage alone: (B, C_{stage-1}, h, w) → (B, C_stage, h', w')."""
        for key in self._stages[stage]:
            x = self.net[key](x)
        return x

    def forward(self, images: Tensor, last: int | None = None) -> dict[int, Tensor]:
        """Features of stages 1 … ``last`` (default ``high_stage``).

        Args:
            images: (B, 3, H, W) floats, normalised by ImageNet's mean and standard deviation whatever the encoder; one
                that wants others brings them to its own.
            last: where to stop.

        Returns:
            stage → (B, ``channels[stage]``, h, w); dilated and H = 8n + 1, h is n + 1 from stage 2 on (VGG: at stage
            2, and n / 2 + 1 rounded down from stage 3 on).
        """
        features = {}
        x = self._normalised(images)
        for stage in range(1, (last or self.high_stage) + 1):
            x = self.run_stage(stage, x)
            features[stage] = x
        return features

    def _normalised(self, images: Tensor) -> Tensor:
        """From ImageNet's normalisation to the encoder's own."""
        if (self.mean, self.std) == IMAGENET:
            return images
        mean, std, own_mean, own_std = (
            constants(x, images.device, images.dtype).view(3, 1, 1) for x in (*IMAGENET, self.mean, self.std)
        )
        return (images * std + mean - own_mean) / own_std

    @property
    def mid_channels(self) -> int:
        """Channels of stages 3 and 2 together, the mid-level feature."""
        return self.channels[3] + self.channels[2]

    @property
    def high_channels(self) -> int:
        """Channels of the last stage, the high-level feature."""
        return self.channels[self.high_stage]

    def freeze(self) -> None:
        """No gradients, and evaluation mode for good: batch-norm statistics never move again."""
        self.frozen = True
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Encoder":
        """As ``nn.Module.train``, but a frozen encoder stays in evaluation mode."""
        return super().train(mode and not self.frozen)


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
        raise ValueError(f"{name} is not a plain list of stages; {TAKE}")
    return net


def _stage_ends(net: FeatureListNet, name: str) -> list[str]:
    """Keys of the modules that give the strides 4, 8, 16 and 32."""
    keys = {info["reduction"]: info["module"].replace(".", "_") for info in net.feature_info.info}
    if not set(STRIDES.values()) <= set(keys):
        raise ValueError(f"{name} has stages at strides {sorted(keys)} instead of 4, 8, 16 and 32; {TAKE}")
    return [keys[stride] for stride in STRIDES.values()]


def _vgg_ends(net: FeatureListNet) -> list[str]:
    """The second, third and fourth max-pool, and the last module before the fifth."""
    keys = list(net)
    pools = [key for key in keys if isinstance(net[key], nn.MaxPool2d)]
    return [*pools[1:4], keys[keys.index(pools[4]) - 1]]


def _split(net: FeatureListNet, ends: list[str]) -> dict[int, list[str]]:
    """Stage number → keys of its children, in order; the stem belongs to stage 1."""
    keys = list(net)
    bounds = [0, *(keys.index(end) + 1 for end in ends)]
    return {stage: keys[bounds[stage - 1] : bounds[stage]] for stage in range(1, len(bounds))}


def align(net: nn.Module) -> None:
    """Make each halving of 2n + 1 positions give n + 1, in place.

    Pools without padding round up (as in the released VGG), and strided convolutions of even kernel without padding
    (ConvNeXt's patches) get half their kernel as padding. Odd kernels with their usual padding do it anyway.
    """
    for module in net.modules():
        if isinstance(module, POOLS) and not any(_pair(module.padding)):
            module.ceil_mode = True
        elif isinstance(module, nn.Conv2d) and module.stride[0] > 1 and module.kernel_size[0] % 2 == 0:
            module.padding = tuple(k // 2 for k in module.kernel_size)


def dilate(stage: nn.Module, dilation: int) -> None:
    """Take the strides out of a stage and give all its convolutions larger than 1x1 this dilation, in place.

    A strided pool, e.g. of ResNet-D's shortcut, becomes the identity.
    """
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if max(module.kernel_size) > 1:
                module.dilation = (dilation, dilation)
                module.padding = tuple(dilation * (k - 1) // 2 for k in module.kernel_size)
        elif isinstance(module, POOLS) and max(_pair(module.stride)) > 1:
            module.kernel_size = module.stride = (1, 1)
            module.padding = (0, 0)


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    """A pool's setting for both axes."""
    return (value, value) if isinstance(value, int) else tuple(value)
