"""Encode images as feature maps, and compare the maps of two images by a head."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qaconv.models.encoder import build_encoder
    from qaconv.models.head import QAConv

__all__ = ["QAConv", "build_encoder"]

_MODULES = {"QAConv": "qaconv.models.head", "build_encoder": "qaconv.models.encoder"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: settings of losses are read without torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
