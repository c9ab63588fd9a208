"""Data sets as LightningDataModules; knows nothing of ``qgnet``."""

from datamodules.episodes import Episode
from datamodules.errors import InputError
from datamodules.pascal5i import Pascal5iDataModule
from datamodules.synthetic import SyntheticDataModule, SyntheticViewsDataModule
from datamodules.unlabeled import UnlabeledDataModule, Views

__all__ = [
    "Episode",
    "InputError",
    "Pascal5iDataModule",
    "SyntheticDataModule",
    "SyntheticViewsDataModule",
    "UnlabeledDataModule",
    "Views",
]
