"""Change values of params.yaml by dotted key."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qaconv.errors import InputError
from qaconv.training.recipes import editing_params

PARAMS = Path("params.yaml")


def change_params(changes: Mapping[str, Any]) -> None:
    """Write new values into params.yaml in the working folder; its comments stay.

    Args:
        changes: values by dotted key, such as train.epochs.

    Raises:
        InputError: a key is not there, or its value is impossible; the file is then as it was.
    """
    with editing_params(PARAMS) as settings:
        for key, value in changes.items():
            *path, last = key.split(".")
            block: Any = settings
            for name in path:
                block = block.get(name) if isinstance(block, dict) else None
            if not isinstance(block, dict) or last not in block:
                raise InputError(f"{PARAMS}: has no {key} to change")
            block[last] = value
