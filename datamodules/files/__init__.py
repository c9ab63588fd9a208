"""Finding and reading files: images and masks as a viewer shows them, or refused by name.

Its names stand in ``__init__.pyi``; each is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
