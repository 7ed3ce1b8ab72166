"""Edit params.yaml without losing its comments."""

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from qaconv.config import load_params
from qaconv.files import replacing_file


@contextmanager
def editing_params(path: Path) -> Iterator[MutableMapping[str, Any]]:
    """Yield the content of params.yaml, and write what the caller has changed, with the comments.

    Args:
        path: the file. It is replaced as a whole, and only if the new content is valid.

    Raises:
        InputError: the new content is invalid; the file has not changed.
    """
    editor = YAML()  # keeps comments, order and quotes
    editor.width = 4096
    params = editor.load(path.read_text(encoding="utf-8"))
    yield params
    text = StringIO()
    editor.dump(params, text)
    with replacing_file(path) as new_file:
        new_file.write_text(text.getvalue(), encoding="utf-8")
        load_params(new_file)
