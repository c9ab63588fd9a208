"""Names of tensors without what wrappers of a network add: ``module.`` and ``_orig_mod.``."""

from collections.abc import Mapping
from typing import Any

from qgnet.common.errors import InputError

PARALLEL = "module"
"""DataParallel's and DistributedDataParallel's, before a name."""
COMPILED = "_orig_mod"
"""torch.compile's, wherever a compiled part begins."""


def unwrapped(state: Mapping[Any, Any], origin: str) -> dict[Any, Any]:
    """The same values by the names that they have in the bare network.

    Args:
        state: keys that are no text stay as they are.
        origin: of the state, for the message.

    Raises:
        InputError: if two tensors would then have one name.
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
