"""Weights & Biases: the logger, what a run is called there, and its tables and charts."""

from qgnet.loggers.wandb import Wandb

__all__ = ["Wandb"]
