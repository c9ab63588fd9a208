"""Which kind of encoder a name belongs to."""

from fnmatch import fnmatchcase
from importlib import import_module

from qgnet.networks.encoders.contract import Encoder
from qgnet.networks.encoders.staged import StagedEncoder
from qgnet.networks.encoders.vgg import VGGEncoder

KINDS: dict[str, type[Encoder]] = {"vgg*": VGGEncoder, "*": StagedEncoder}
"""Pattern of names → kind; the first that fits counts."""


def create_encoder(name: str = "resnet50", high_stage: int = 4, dilated: bool = True) -> Encoder:
    """An encoder with random weights.

    Args:
        name: a registered one, a timm model, or the import path of an :class:`Encoder`, e.g. ``my_package.MyEncoder``.
        high_stage: see :class:`Encoder`.
        dilated: see :class:`Encoder`.

    Raises:
        ValueError: if there is none of this name, or it does not fulfil the contract.
    """
    module, _, attribute = name.rpartition(".")
    if module and attribute.isidentifier() and attribute[:1].isupper():
        return imported(name, module, attribute)(name, high_stage, dilated)
    kind = next(kind for pattern, kind in KINDS.items() if fnmatchcase(name, pattern))
    return kind(name, high_stage, dilated)


def imported(name: str, module: str, attribute: str) -> type[Encoder]:
    """The class of an import path."""
    try:
        kind = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"the encoder {name} cannot be imported ({error}).") from None
    if not (isinstance(kind, type) and issubclass(kind, Encoder)):
        raise ValueError(f"the encoder {name} is no subclass of qgnet.networks.encoders.Encoder.")
    return kind
