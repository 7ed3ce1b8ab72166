"""The network: an encoder of images, and a head that compares the maps of two."""

from qaconv.models.encoder import build_encoder
from qaconv.models.head import QAConv

__all__ = ["QAConv", "build_encoder"]
