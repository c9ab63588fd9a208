"""QGNet: few-shot segmentation with global and local contrastive learning, on PyTorch Lightning.

What may be relied on from outside stands in ``__init__.pyi``; each name is imported when it is first used.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
