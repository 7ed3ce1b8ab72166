"""Changes by dotted key go in; params.yaml has them, or is as it was."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from qaconv.config import load_params
from qaconv.errors import InputError
from qaconv.files import replacing_file

PARAMS = Path("params.yaml")


def change_params(changes: Mapping[str, Any]) -> None:
    """Writes params.yaml in the working folder anew; comments go.

    Raises:
        InputError: a key is not there, or its value is impossible.
    """
    settings = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    for key, value in changes.items():
        *path, last = key.split(".")
        block = settings
        for name in path:
            block = block.get(name) if isinstance(block, dict) else None
        if not isinstance(block, dict) or last not in block:
            raise InputError(f"{PARAMS}: has no {key} to change")
        block[last] = value
    with replacing_file(PARAMS) as beside:
        beside.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        load_params(beside)
