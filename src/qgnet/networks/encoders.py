"""Convolutional encoders at output stride 8, frozen or not: QGNet's E (supervised) and P (the prior extractor)."""

import timm
from timm.models import FeatureListNet
from torch import Tensor, nn

DILATION = {3: 2, 4: 4}
"""Dilation of all 3x3 convolutions of a stage, its first block included (released code; timm's own rule differs)."""


class Encoder(nn.Module):
    """A timm CNN cut after ``high_stage``, whose stages 2, 3, … are read out.

    Args:
        name: a timm model made of a flat list of stages, e.g. ``resnet18``, ``resnet50`` (plain 7x7 stem),
            ``resnet50s`` (the deep stem of the released E).
        high_stage: the last stage, 3 or 4. Its output is the high-level feature; the mid-level feature is
            made of stages 2 and 3.
        dilated: keep stages 3 and 4 at stride 8 by dilation. False leaves the classifier's strides
            (pretraining); the parameters are the same.

    Weights are random until loaded; see ``qgnet.weights``.

    Raises:
        ValueError: if timm has no such model, or it is not a flat list of stages.
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
        self.net = timm.create_model(name, features_only=True, out_indices=tuple(range(1, high_stage + 1)))
        if not isinstance(self.net, FeatureListNet):
            raise ValueError(f"{name} is not a plain list of stages; take a ResNet-like timm model.")
        self.channels = dict(zip(range(1, high_stage + 1), self.net.feature_info.channels(), strict=True))
        self._stages = self._split()
        if dilated:
            for stage, dilation in DILATION.items():
                for key in self._stages.get(stage, ()):
                    dilate(self.net[key], dilation)

    def _split(self) -> dict[int, list[str]]:
        """Stage number → keys of its children, in order; the stem belongs to stage 1."""
        stages: dict[int, list[str]] = {}
        keys: list[str] = []
        for key in self.net:
            keys.append(key)
            if key in self.net.return_layers:
                stages[len(stages) + 1] = keys
                keys = []
        return stages

    def run_stage(self, stage: int, x: Tensor) -> Tensor:
        """One stage alone: (B, C_{stage-1}, h, w) → (B, C_stage, h', w')."""
        for key in self._stages[stage]:
            x = self.net[key](x)
        return x

    def forward(self, images: Tensor, last: int | None = None) -> dict[int, Tensor]:
        """Features of stages 1 … ``last`` (default ``high_stage``).

        Args:
            images: (B, 3, H, W) normalised floats.
            last: where to stop.

        Returns:
            stage → (B, ``channels[stage]``, h, w); dilated and H = 8n + 1, h is n + 1 from stage 2 on.
        """
        features = {}
        x = images
        for stage in range(1, (last or self.high_stage) + 1):
            x = self.run_stage(stage, x)
            features[stage] = x
        return features

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


def dilate(stage: nn.Module, dilation: int) -> None:
    """Take the strides out of a stage and give all its convolutions larger than 1x1 this dilation, in place."""
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if max(module.kernel_size) > 1:
                module.dilation = (dilation, dilation)
                module.padding = tuple(dilation * (k - 1) // 2 for k in module.kernel_size)
        elif isinstance(module, nn.AvgPool2d):  # the pooled shortcut of ResNet-D: without a stride, the identity
            module.kernel_size = module.stride = 1
            module.padding = 0
