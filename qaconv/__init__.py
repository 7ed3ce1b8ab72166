"""Person re-identification by query-adaptive convolution (QAConv) and temporal lifting (TLift).

The names below are the public interface. Each is imported when it is first used, so that `import qaconv` is quick.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from qaconv.errors import EXTRAS, missing_package

if TYPE_CHECKING:  # what `__getattr__` does, for type checkers and the reference on the documentation site
    from qaconv.data.layouts import read as read_dataset
    from qaconv.data.manifest import Manifest
    from qaconv.matching.rerank import k_reciprocal
    from qaconv.matching.search import score_matrix, search
    from qaconv.metrics.ranking import evaluate_ranking
    from qaconv.models.checkpoint import load_network
    from qaconv.models.encoder import build_encoder
    from qaconv.models.head import QAConv
    from qaconv.plugins import register
    from qaconv.tlift.fit import fit_profile
    from qaconv.tlift.lift import temporal_lift
    from qaconv.tlift.profile import TLiftProfile

__version__ = "0.1.0"

__all__ = [
    "Manifest",
    "QAConv",
    "TLiftProfile",
    "__version__",
    "build_encoder",
    "evaluate_ranking",
    "fit_profile",
    "k_reciprocal",
    "load_network",
    "read_dataset",
    "register",
    "score_matrix",
    "search",
    "temporal_lift",
]

# "module:attribute" of each public name.
_SOURCES = {
    "Manifest": "qaconv.data.manifest:Manifest",
    "QAConv": "qaconv.models.head:QAConv",
    "TLiftProfile": "qaconv.tlift.profile:TLiftProfile",
    "build_encoder": "qaconv.models.encoder:build_encoder",
    "evaluate_ranking": "qaconv.metrics.ranking:evaluate_ranking",
    "fit_profile": "qaconv.tlift.fit:fit_profile",
    "k_reciprocal": "qaconv.matching.rerank:k_reciprocal",
    "load_network": "qaconv.models.checkpoint:load_network",
    "read_dataset": "qaconv.data.layouts:read",
    "register": "qaconv.plugins:register",
    "score_matrix": "qaconv.matching.search:score_matrix",
    "search": "qaconv.matching.search:search",
    "temporal_lift": "qaconv.tlift.lift:temporal_lift",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module (PEP 562)."""
    if name not in _SOURCES:
        raise AttributeError(f"module 'qaconv' has no attribute {name!r}")
    try:
        value = resolve_name(_SOURCES[name])
    except ModuleNotFoundError as error:
        if error.name in EXTRAS:
            raise ImportError(f"qaconv.{name}: {missing_package(error.name)}") from error
        raise
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
