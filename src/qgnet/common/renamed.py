"""Settings that had another name once: command lines, configurations and files with the old one still work."""

import re
from collections.abc import Sequence
from typing import Any

RENAMED = {
    "prior_checkpoint": "prior_weights",
    "margins": "score_maps",
    "add_margins": "add_to_score_maps",
}
"""Old name → name."""
OPTION = re.compile(rf"(--model\.(?:init_args\.)?)({'|'.join(RENAMED)})(?==|$)")


def renamed_options(arguments: Sequence[str]) -> list[str]:
    """The arguments of ``lightning``, with options by their names of today."""
    return [OPTION.sub(lambda found: found[1] + RENAMED[found[2]], argument) for argument in arguments]


def renamed(content: Any) -> Any:
    """What was read from a file, with the keys of all mappings by their names of today."""
    if isinstance(content, dict):
        return {RENAMED.get(key, key): renamed(value) for key, value in content.items()}
    return [renamed(value) for value in content] if isinstance(content, list) else content
