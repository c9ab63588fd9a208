"""Lines for the user."""

from pytorch_lightning.utilities import rank_zero_only


@rank_zero_only
def say(*lines: str) -> None:
    """Print the lines that are not empty, in one process of all."""
    for line in filter(None, lines):
        print(line, flush=True)
