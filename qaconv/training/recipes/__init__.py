"""A recipe's name and params.yaml go in; params.yaml comes out with the recipe's values, its comments kept.

The values are written out, not referred to: params.yaml always shows what is run, DVC sees what changes, and whoever
wants another value changes it there.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML

from qaconv.config import load_params
from qaconv.errors import InputError
from qaconv.files import replacing_file

FOLDER = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def read_recipe(name: str) -> dict[str, Any]:
    """The blocks of params.yaml that a recipe sets.

    Raises:
        InputError: there is no recipe of that name.
    """
    if name not in NAMES:
        raise InputError(f"there is no recipe {name!r}; legal are {', '.join(NAMES)}")
    values: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return values


def write_recipe(name: str, path: Path = Path("params.yaml")) -> list[str]:
    """Sets a recipe's values in params.yaml, and nothing else; gives a line for each value that changed.

    Raises:
        InputError: there is no recipe of that name, or params.yaml is refused before or after; it is then as it was.
    """
    recipe = read_recipe(name)
    load_params(path)
    with editing_params(path) as params:
        return list(_set(params, recipe))


@contextmanager
def editing_params(path: Path) -> Iterator[MutableMapping[str, Any]]:
    """Yield the content of params.yaml, and write it with its comments once the caller has changed it.

    Raises:
        InputError: the new content is refused; the file is then as it was.
    """
    editor = YAML()  # keeps comments, order and quotes
    editor.width = 4096
    params = editor.load(path.read_text(encoding="utf-8"))
    yield params
    text = StringIO()
    editor.dump(params, text)
    with replacing_file(path) as beside:
        beside.write_text(text.getvalue(), encoding="utf-8")
        load_params(beside)


def _set(params: MutableMapping[str, Any], recipe: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in recipe.items():
        if isinstance(value, Mapping) and isinstance(params.get(key), MutableMapping):
            yield from _set(params[key], value, f"{prefix}{key}.")
        elif params.get(key) != value:
            yield f"{prefix}{key}: {params.get(key, 'not set')} -> {value}"
            params[key] = value
