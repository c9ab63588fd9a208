from .cli import Run as Run
from .cli import test as test
from .cli import train as train
from .common.errors import InputError as InputError
from .inference.segmenter import Segmenter as Segmenter
from .losses import global_local_loss as global_local_loss
from .losses import info_nce as info_nce
from .losses import segmentation_loss as segmentation_loss
from .metrics import EpisodeIoU as EpisodeIoU
from .networks.qgnet import QGNet as QGNet
from .outputs.segments import Result as Result
from .outputs.segments import Segment as Segment
from .tasks.heads import DCAMASegmentation as DCAMASegmentation
from .tasks.heads import HSNetSegmentation as HSNetSegmentation
from .tasks.matching import SupportMatching as SupportMatching
from .tasks.pretraining import GlobalLocalPretraining as GlobalLocalPretraining
from .tasks.score_maps import ScoreMapSegmentation as ScoreMapSegmentation
from .tasks.segmentation import FewShotSegmentation as FewShotSegmentation

__version__: str
__all__: list[str]
