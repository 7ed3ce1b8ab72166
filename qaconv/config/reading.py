"""Read YAML as DVC does where PyYAML differs: a key that stands twice is refused, and 5e-4 is a number."""

import re
from pathlib import Path
from typing import Any

import yaml

from qaconv.errors import InputError


def read_yaml(path: Path) -> Any:
    """Read params.yaml without checking its keys.

    Raises:
        InputError: the file cannot be read, is not YAML, or has a key twice in a block.
    """
    return parse_yaml(read_text(path), path)


def parse_yaml(text: str, path: Path) -> Any:
    """Read the text of params.yaml without checking its keys.

    Args:
        text: the text.
        path: the file, named in messages.

    Raises:
        InputError: the text is not YAML, or has a key twice in a block.
    """
    try:
        return _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise InputError(
            f"{path}: {line}is not YAML: {error.problem}; correct this line or the one above, such as its indentation"
        ) from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is not YAML: {error}") from error


def read_text(path: Path) -> str:
    """Read params.yaml as text.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; run this in the project's folder") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be UTF-8: {error}") from error


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which makes no objects but plain ones."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that stands twice: PyYAML would take the last one in silence."""
        first_lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value in first_lines:
                problem = f"the key {key.value!r} must stand once in a block, is on line {first_lines[key.value]} too"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                first_lines[key.value] = line
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+"), list("-+.0123456789")
)
