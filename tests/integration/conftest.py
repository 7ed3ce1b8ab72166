"""The registry of five versions, for tests that kill changes of it."""

from tests.registry.conftest import five_versions, registry

__all__ = ["five_versions", "registry"]
