"""Paths as people write them in YAML and on the command line."""

import os
import re
from pathlib import Path

from qgnet.common.errors import InputError

VARIABLE = re.compile(r"\$(\w+|\{\w+\})")


def expanded(path: str | Path) -> Path:
    """The path with ``~`` and ``$VARIABLES`` replaced.

    Raises:
        InputError: if a variable is not set, or there is no such home folder.
    """
    text = os.path.expandvars(os.path.expanduser(path))
    unset = VARIABLE.search(text)
    if unset:
        raise InputError(f"The path {path} names the variable {unset[0]}, which is not set. Set it, or write the path.")
    if text.startswith("~") and not os.path.exists(text):
        raise InputError(f"The path {path} names a home folder that does not exist. Write the path in full.")
    return Path(text)
