"""The exception for a user's mistakes, and how its message lists many things."""

from collections.abc import Sequence


class InputError(Exception):
    """The user's input cannot be used. The message says what was expected, what was found and what to do.

    The commands print the message alone, without a traceback, and exit with 2.
    """


def some(words: Sequence[str], most: int = 8) -> str:
    """The first of many words and their number, for a message."""
    return ", ".join(words[:most]) + (f" … ({len(words)} in all)" if len(words) > most else "")
