"""Change values of params.yaml by dotted key."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qaconv.config.editing import editing_params
from qaconv.errors import InputError

PARAMS = Path("params.yaml")


def change_params(changes: Mapping[str, Any]) -> None:
    """Write new values into params.yaml in the working folder, and keep its comments.

    Args:
        changes: values by dotted key, such as methods.qaconv.train.epochs.

    Raises:
        InputError: a key does not exist or a value is invalid; the file is then unchanged.
    """
    with editing_params(PARAMS) as settings:
        for key, value in changes.items():
            *path, last = key.split(".")
            block: Any = settings
            for name in path:
                block = block.get(name) if isinstance(block, dict) else None
            if not isinstance(block, dict) or last not in block:
                raise InputError(f"{PARAMS}: unknown key {key}")
            block[last] = value
