from .coco20i import Coco20iDataModule
from .episodes.episode import Episode
from .folder import FolderDataModule
from .fss1000 import Fss1000DataModule
from .pascal5i import Pascal5iDataModule
from .synthetic import SyntheticDataModule, SyntheticViewsDataModule
from .unlabeled import UnlabeledDataModule
from .views.dataset import Views

__all__ = [
    "Coco20iDataModule",
    "Episode",
    "FolderDataModule",
    "Fss1000DataModule",
    "Pascal5iDataModule",
    "SyntheticDataModule",
    "SyntheticViewsDataModule",
    "UnlabeledDataModule",
    "Views",
]
