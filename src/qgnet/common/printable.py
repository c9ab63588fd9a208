"""Text of others, such as names of classes, without what would command a terminal."""

from typing import Any


def printable(value: Any) -> Any:
    """A text, or all texts in a JSON value, with the escape of each letter that cannot be shown."""
    if isinstance(value, str):
        return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in value)
    if isinstance(value, list):
        return [printable(one) for one in value]
    if isinstance(value, dict):
        return {printable(key): printable(one) for key, one in value.items()}
    return value
