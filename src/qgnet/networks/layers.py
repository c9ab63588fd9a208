"""The few layers that QGNet's modules share."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_relu(in_channels: int, out_channels: int, kernel_size: int = 1) -> nn.Sequential:
    """A size-keeping convolution without bias, then ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
        nn.ReLU(inplace=True),
    )


def reducer(in_channels: int, out_channels: int, kernel_size: int = 1) -> nn.Sequential:
    """Brings an encoder's channels down to the head's width; drops whole channels with probability 0.5."""
    return nn.Sequential(*conv_relu(in_channels, out_channels, kernel_size), nn.Dropout2d(0.5))


def refine(channels: int) -> nn.Sequential:
    """Two 3x3 convolutions with ReLU, used as a residual branch."""
    return nn.Sequential(*conv_relu(channels, channels, 3), *conv_relu(channels, channels, 3))


def classifier(channels: int) -> nn.Sequential:
    """3x3 convolution, ReLU, Dropout2d 0.1, 1x1 convolution to the two labels background and foreground."""
    return nn.Sequential(*conv_relu(channels, channels, 3), nn.Dropout2d(0.1), nn.Conv2d(channels, 2, 1))


def size_of(feature: Tensor) -> tuple[int, int]:
    """(h, w) of (B, C, h, w); plain numbers even where TorchScript traces them."""
    return int(feature.shape[-2]), int(feature.shape[-1])


def resize(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resizing of (B, C, h, w) with ``align_corners=True``, the only kind that QGNet uses."""
    if features.shape[-2:] == size:
        return features
    return F.interpolate(features, size, mode="bilinear", align_corners=True)


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resizing of (B, 1, H, W) as the paper does; an object too small to be met by it is kept by coverage."""
    resized = resize(mask, size)
    lost = resized.amax(dim=(1, 2, 3), keepdim=True) == 0
    if mask.device.type == "cpu" and not lost.any():  # a GPU would have to be waited for to tell
        return resized
    return torch.where(lost, F.adaptive_max_pool2d(mask, size), resized)


def foreground_share(mask: Tensor, size: tuple[int, int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Masks (B, H, W) in {0, 1, 255} → soft masks (B, 1, h, w) in [0, 1] of their foreground."""
    return resize_mask((mask == 1).to(dtype).unsqueeze(1), size)


def constants(values: Sequence[float], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """(N,) values, made on the device itself: for a copy from the host it would have to be waited for."""
    return torch.stack([torch.full((), value, device=device, dtype=dtype) for value in values])


def pool(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Average pooling of (B, C, h, w) to a size that need not divide h and w."""
    if not torch.onnx.is_in_onnx_export():
        return F.adaptive_avg_pool2d(features, size)
    rows, columns = (  # the same as products with matrices, which not every exporter has the other for
        F.adaptive_avg_pool1d(torch.eye(int(length))[None], wanted)[0]
        for length, wanted in zip(features.shape[2:], size, strict=True)
    )
    return rows.T @ features @ columns
