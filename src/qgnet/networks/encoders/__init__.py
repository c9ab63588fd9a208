"""Image encoders: the contract, and the kinds that fulfil it.

``contract.py`` defines what a head may use of an encoder, ``registry.py`` which kind a name belongs to.
"""

from qgnet.networks.encoders.contract import IMAGENET, Encoder, Features, Level, MaskAt
from qgnet.networks.encoders.registry import create_encoder

__all__ = ["IMAGENET", "Encoder", "Features", "Level", "MaskAt", "create_encoder"]
