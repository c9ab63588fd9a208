"""Data sets as LightningDataModules. They import only ``qgnet.common`` of ``qgnet``.

Its names stand in ``__init__.pyi``; each is imported when it is first used.
"""

import lazy_loader

from qgnet.common.errors import InputError as InputError

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
