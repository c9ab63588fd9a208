"""What the terminal shows: own lines and true warnings, not what libraries say of themselves in every run."""

import logging
import os
import warnings

ADVERTISING = ("pytorch_lightning", "lightning_fabric", "lightning_utilities")
"""Loggers whose INFO is tips, devices that there are not, and a table of modules."""
NOISE = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"The '.*' does not have many workers",
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    r"Found \d+ module\(s\) in eval mode",  # the frozen ones
    r"The dirpath has changed from",  # each run has its own
    r"Checkpoint directory .* exists and is not empty",  # of a run that goes on
    r"Experiment logs directory .* exists and is not empty",  # older metrics were set aside
    r"The ``compute`` method of metric SupportControl was called before the ``update`` method",  # no absent classes
    r"It is recommended to use `self.log\(.*, sync_dist=True\)`",  # scores are already those of all processes
)
"""Beginnings (regular expressions) of warnings that need nothing to be done."""


def quiet() -> None:
    """Hide what `NOISE` and `ADVERTISING` name, and where in the code a warning comes from."""
    for name in ADVERTISING:
        logging.getLogger(name).setLevel(logging.WARNING)
    for beginning in NOISE:
        warnings.filterwarnings("ignore", beginning)
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    os.environ.setdefault("WANDB_SILENT", "true")
