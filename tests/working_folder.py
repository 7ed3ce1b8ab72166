"""Work in a folder with a store of MLflow of its own, for fixtures that several tests share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Make a folder the working folder; the tracking server that an earlier test chose is forgotten."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(folder)
        yield
