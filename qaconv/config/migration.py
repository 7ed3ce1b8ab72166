"""Rewrite a params.yaml of an older version."""

from pathlib import Path

from qaconv.config import load_params
from qaconv.config.editing import editing_params
from qaconv.config.outdated import replace_outdated
from qaconv.config.reading import read_yaml


def migrate_params(path: Path = Path("params.yaml")) -> list[str]:
    """Replace the keys of older versions in params.yaml, and keep its comments.

    Returns:
        A line for each key that changed; none if the file is current, which is then left alone.

    Raises:
        InputError: the file is missing, is not YAML, or has other faults; it has not changed.
    """
    if not replace_outdated(read_yaml(path), path):
        load_params(path)
        return []
    with editing_params(path) as params:
        return replace_outdated(params, path)
