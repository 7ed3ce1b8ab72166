"""Edit params.yaml without losing its comments."""

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from qaconv.config import check_params
from qaconv.config.reading import parse_yaml, read_text
from qaconv.errors import InputError
from qaconv.files import replacing_file


@contextmanager
def editing_params(path: Path) -> Iterator[MutableMapping[str, Any]]:
    """Yield the content of params.yaml, and write what the caller has changed, with the comments.

    Args:
        path: the file. It is replaced as a whole, and only if the new content is valid.

    Raises:
        InputError: the file cannot be read or written, is not YAML, or the new content is invalid; it has not changed.
    """
    editor = YAML()  # keeps comments, order and quotes
    editor.width = 4096
    before = read_text(path)
    parse_yaml(before, path)
    params = editor.load(before)
    yield params
    after = StringIO()
    editor.dump(params, after)
    check_params(parse_yaml(after.getvalue(), path), path)
    try:
        with replacing_file(path) as new_file:
            new_file.write_text(after.getvalue(), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
