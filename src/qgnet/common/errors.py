"""The one exception for a user's mistakes."""


class InputError(Exception):
    """Something the user gave cannot be used: the message says what was expected, what was found, what to do.

    The commands print the message alone, without a traceback, and exit with 2.
    """
