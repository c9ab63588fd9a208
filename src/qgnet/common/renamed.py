"""Settings that had another name once: command lines, configurations and files with the old one still work."""

from typing import Any

RENAMED = {
    "prior_checkpoint": "prior_weights",
    "margins": "score_maps",
    "add_margins": "add_to_score_maps",
}
"""Old name → name."""


def renamed(content: Any) -> Any:
    """What was read from a file, with the keys of all mappings by their names of today."""
    if isinstance(content, dict):
        return {RENAMED.get(key, key): renamed(value) for key, value in content.items()}
    return [renamed(value) for value in content] if isinstance(content, list) else content
