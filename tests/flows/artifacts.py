"""Read artifacts that flows have created, for tests."""

from typing import Any

from prefect.artifacts import Artifact


def artifact_data(key: str) -> str:
    """Return the content of the newest artifact with a key, which must exist."""
    artifact: Any = Artifact.get(key)
    assert artifact is not None, key
    return str(artifact.data)
