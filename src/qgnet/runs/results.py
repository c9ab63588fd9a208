"""Names of the baselines in ``results.json``; needs neither torch nor Lightning."""

RESULTS = "results.json"
EVERYTHING = "everything foreground"
THRESHOLDS = tuple(round(0.1 * i, 1) for i in range(1, 10))
"""At which maps in [0, 1] are cut to masks."""


def guided(threshold: float) -> str:
    """Name of the baseline "guided map above a threshold"."""
    return f"guided map > {threshold}"


def matching(name: str) -> str:
    """Name of the baseline "foreground where a score map is above 0"."""
    return f"matching by {name}"
