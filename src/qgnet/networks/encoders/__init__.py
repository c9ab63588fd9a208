"""Image encoders: the contract, and the kinds that fulfil it.

``contract.py`` says what a head may ask of an encoder. ``registry.py`` says which kind a name belongs to.
"""

from qgnet.networks.encoders.contract import IMAGENET, Encoder, Features, Level, MaskAt
from qgnet.networks.encoders.registry import create_encoder

__all__ = ["IMAGENET", "Encoder", "Features", "Level", "MaskAt", "create_encoder"]
