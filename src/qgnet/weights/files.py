"""Files of tensors: written by rename, read without running any code, with the names that the bare network has."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from datamodules.files.writing import atomic_write
from qgnet.common.errors import InputError

PARALLEL = "module"
"""DataParallel's and DistributedDataParallel's, before a name."""
COMPILED = "_orig_mod"
"""torch.compile's, wherever a compiled part begins."""


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write a file by torch.save, through a stream: torch writes a file's name into it, and equal content gives equal
    bytes only without.
    """  # noqa: D205
    with atomic_write(path) as part, open(part, "wb") as file:
        torch.save(content, file)


def read_tensors(path: Path, setting: str) -> dict[str, Any]:
    """What torch.save wrote, or a .safetensors file, with the names of tensors as of the bare network.

    Args:
        path: of the file.
        setting: that names it, for messages.

    Raises:
        InputError: if it is anything but tensors and plain values.
    """
    try:
        safe = path.suffix == ".safetensors"
        content: Any = dict(load_file(path)) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a file that is no checkpoint
        code = re.search(r"GLOBAL ([\w.]+)", str(error))  # how torch names the object that it will not make
        found = f"`{code[1]}`" if code else type(error).__name__
        raise InputError(
            f"`{setting}`: {path} cannot be read as a checkpoint of tensors ({found}): it is cut off, of another kind, "
            "or holds more than tensors and plain values, which is never run. Fetch it again, or give another file "
            "written by torch.save or safetensors. If you trust its author, save its state_dict alone and give that."
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"`{setting}`: {path} holds a {type(content).__name__}; expected a dictionary of tensors.")
    if isinstance(content.get("state_dict"), dict):
        content["state_dict"] = unwrapped(content["state_dict"], str(path))
        return content
    return unwrapped(content, str(path))


def unwrapped(state: Mapping[Any, Any], origin: str) -> dict[Any, Any]:
    """The same values by the names that they have in the bare network.

    Args:
        state: keys that are no text stay as they are.
        origin: of the state, for the message.

    Raises:
        InputError: if two tensors would then have the same name.
    """
    found: dict[Any, Any] = {}
    for name, value in state.items():
        bare = bare_name(name) if isinstance(name, str) else name
        if bare in found:
            raise InputError(
                f"{origin} names {bare} twice: as it is, and within `{PARALLEL}.` or `{COMPILED}.`. Give a state dict "
                "of one network."
            )
        found[bare] = value
    return found


def bare_name(name: str) -> str:
    """``module._orig_mod.layer1._orig_mod.weight`` → ``layer1.weight``."""
    parts = [part for part in name.split(".") if part != COMPILED]
    while len(parts) > 1 and parts[0] == PARALLEL:
        parts.pop(0)
    return ".".join(parts)


def mismatches(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Names of weights that keep a state dict from being loaded strictly, by what is wrong with them."""
    wrong = {
        "missing": sorted(set(own) - set(found)),
        "unknown": sorted(set(found) - set(own)),
        "of another shape": [key for key in own if key in found and own[key].shape != found[key].shape],
    }
    return {what: keys for what, keys in wrong.items() if keys}
