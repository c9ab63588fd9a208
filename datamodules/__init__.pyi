from .datasets.coco20i import Coco20i
from .datasets.folder import LabelledFolder
from .datasets.fss1000 import Fss1000
from .datasets.pascal5i import Pascal5i
from .datasets.protocols import Protocol
from .datasets.spec import DatasetSpec
from .datasets.synthetic import Synthetic
from .episodes.dataset import EpisodeDataset
from .episodes.episode import Episode, collate
from .episodes.labelled import LabelledDataset, LabelledImage
from .episodic import EpisodeDataModule
from .named import Coco20iDataModule, FolderDataModule, Fss1000DataModule, Pascal5iDataModule, SyntheticDataModule
from .unlabeled import SyntheticViewsDataModule, UnlabeledDataModule
from .views.dataset import Views

__all__ = [
    "Coco20i",
    "Coco20iDataModule",
    "DatasetSpec",
    "Episode",
    "EpisodeDataModule",
    "EpisodeDataset",
    "FolderDataModule",
    "Fss1000",
    "Fss1000DataModule",
    "LabelledDataset",
    "LabelledFolder",
    "LabelledImage",
    "Pascal5i",
    "Pascal5iDataModule",
    "Protocol",
    "Synthetic",
    "SyntheticDataModule",
    "SyntheticViewsDataModule",
    "UnlabeledDataModule",
    "Views",
    "collate",
]
