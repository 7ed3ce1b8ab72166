"""Build the environment of child processes."""

import os
import sys
from pathlib import Path


def child_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment for a child that runs the project's commands.

    The folder of this Python's commands comes first in PATH, as it holds `dvc` and `qaconv`.

    Args:
        variables: variables to set in addition.
    """
    commands = str(Path(sys.executable).parent)
    path = os.pathsep.join([commands, os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, **variables}
