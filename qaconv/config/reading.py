"""Read params.yaml as DVC does: YAML 1.2, in which 010 is ten, 1e-3 a number, 1:30 and off are texts."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, DuplicateKeyError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import Node

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
    reader = YAML(typ="safe", pure=True)  # the parser in C ends the process where lists are nested deeply
    reader.Constructor = _Constructor
    try:
        return reader.load(text)
    except DuplicateKeyError as error:
        key = error.problem.partition(" with value")[0]
        line = error.problem_mark.line + 1
        raise InputError(f"{path}: line {line}: a key must stand once in a block: {key}") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise InputError(
            f"{path}: {line}is not YAML: {error.problem}; correct this line or the one above, such as its indentation"
        ) from error
    except YAMLError as error:
        raise InputError(f"{path}: is not YAML: {error}") from error
    except RecursionError as error:
        raise InputError(f"{path}: lists and blocks must be nested less deeply") from error


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


class _Constructor(SafeConstructor):
    """The constructor of plain values, which names the line of one that has the form of a number or a date only."""

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        """Construct a value, such as 2024-02-30, which has a date's form and is none."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError) as error:
            shown = str(node.value)[:80]
            raise ConstructorError(None, None, f"{shown!r} cannot be read: {error}", node.start_mark) from error
