"""Set the environment of processes that this one starts."""

import os
import sys
from pathlib import Path


def child_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment for a child that runs the project's commands.

    This Python's folder of commands comes first in PATH, as `dvc` and `qaconv` are there, whoever started this process.

    Args:
        variables: to set in addition.
    """
    commands = str(Path(sys.executable).parent)
    path = os.pathsep.join([commands, os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, **variables}
