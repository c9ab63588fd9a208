"""Configurations of runs: YAML files and command lines in layers, parsed before anything is made of them."""

DESCRIPTION = "Train, test and apply QGNet."
SUBCOMMANDS = {
    "fit": "train, and validate between the epochs",
    "validate": "score a checkpoint on the validation episodes",
    "test": "score a checkpoint on the test episodes, and write results.json",
    "predict": "write a checkpoint's masks",
}
"""What may be run, and what it does."""
