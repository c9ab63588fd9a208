"""Weights in files: encoders, prior extractors, banks, released networks, checkpoints."""

from typing import Literal

Method = Literal["kmeans", "sample"]
"""How a bank's priors are made of features."""
