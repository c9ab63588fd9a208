"""Data sets as LightningDataModules; knows nothing of ``qgnet``."""

from datamodules.coco20i import Coco20iDataModule
from datamodules.episodes import Episode
from datamodules.errors import InputError
from datamodules.folder import FolderDataModule
from datamodules.fss1000 import Fss1000DataModule
from datamodules.pascal5i import Pascal5iDataModule
from datamodules.synthetic import SyntheticDataModule, SyntheticViewsDataModule
from datamodules.unlabeled import UnlabeledDataModule
from datamodules.views import Views

__all__ = [
    "Coco20iDataModule",
    "Episode",
    "FolderDataModule",
    "Fss1000DataModule",
    "InputError",
    "Pascal5iDataModule",
    "SyntheticDataModule",
    "SyntheticViewsDataModule",
    "UnlabeledDataModule",
    "Views",
]
