"""Weights & Biases: the logger, the names of runs, and tables and charts."""

from qgnet.loggers.wandb import Wandb

__all__ = ["Wandb"]
