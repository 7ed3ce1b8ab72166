"""Write a recipe's values into params.yaml, and keep its comments.

The values are written out rather than referred to by the recipe's name. So params.yaml shows what runs, DVC sees what
changes, and every value can be changed there.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml.comments import CommentedMap

from qaconv.config import load_params
from qaconv.config.editing import editing_params
from qaconv.errors import InputError

FOLDER = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def read_recipe(name: str) -> dict[str, Any]:
    """Read the blocks of params.yaml that a recipe sets.

    Raises:
        InputError: the recipe is unknown.
    """
    if name not in NAMES:
        raise InputError(f"unknown recipe {name!r}, allowed: {', '.join(NAMES)}")
    values: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return values


def write_recipe(name: str, path: Path = Path("params.yaml")) -> list[str]:
    """Set a recipe's values in params.yaml and leave all others.

    Returns:
        A line for each value that changed.

    Raises:
        InputError: the recipe is unknown, or params.yaml is invalid before or after; it has not changed.
    """
    recipe = read_recipe(name)
    load_params(path)
    with editing_params(path) as params:
        return list(_set(params, recipe))


def _set(params: MutableMapping[str, Any], recipe: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in recipe.items():
        current = params.get(key)
        if _are_blocks_of_one_kind(current, value):
            yield from _set(params[key], value, f"{prefix}{key}.")
        elif current != value:
            yield f"{prefix}{key}: {_show(params, key)} -> {_show(recipe, key)}"
            params[key] = _in_one_line(value) if isinstance(value, Mapping) else value


def _are_blocks_of_one_kind(current: Any, value: Any) -> bool:
    """Return whether to set single keys: the settings of another kind are replaced as a whole."""
    if not isinstance(current, Mapping) or not isinstance(value, Mapping):
        return False
    return bool(current.get("kind") == value.get("kind"))


def _in_one_line(block: Mapping[str, Any]) -> CommentedMap:
    """Return a block as the files write the settings of a kind."""
    line = CommentedMap(block)
    line.fa.set_flow_style()
    return line


def _show(values: Mapping[str, Any], key: str) -> Any:
    value = values.get(key, "not set")
    return dict(value) if isinstance(value, Mapping) else value
