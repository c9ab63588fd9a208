"""How both commands end: a user's mistake becomes a message, a signal an exit code. Imports nothing slow."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import NoReturn

from qgnet.common.terminal import printable

MISTAKE, INTERRUPTED, TERMINATED = 2, 130, 143
"""Exit codes: a user's mistake; Ctrl-C and SIGTERM as a shell reports them."""


@contextmanager
def boundary(advice: str) -> Iterator[None]:
    """Turn mistakes and signals into messages and exit codes; only a fault of this program shows a traceback.

    Args:
        advice: what to do after Ctrl-C or SIGTERM; part of the message.

    Raises:
        SystemExit: with 2 for a user's mistake, 130 after Ctrl-C and 143 after SIGTERM, so that `fit && test` stops.
    """
    try:
        yield
    except KeyboardInterrupt:
        end(f"Stopped. {advice}", INTERRUPTED)
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning shuts down and exits with 1
            end(f"Stopped. {advice}", INTERRUPTED)
        if type(stop).__name__ == "SIGTERMException":  # Lightning's, whose exit code is 0
            end(f"Ended by SIGTERM. {advice}", TERMINATED)
        raise
    except Exception as error:
        mistake = import_module("qgnet.common.mistakes").users_mistake(error)
        if mistake is None:
            raise
        message = str(mistake).rsplit("InputError: ", 1)[-1].strip()  # without a loader process's traceback around it
        shown = "\n".join(printable(line) for line in message.split("\n"))
        end(f"error: {shown}", MISTAKE)


def end(message: str, code: int) -> NoReturn:
    """Print to the error output and exit."""
    print(f"\n{message}", file=sys.stderr)
    sys.exit(code)
