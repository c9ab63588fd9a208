from .segmenter import Segmenter as Segmenter
from .segments import Result as Result
from .segments import Segment as Segment

__version__: str
