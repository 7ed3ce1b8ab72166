"""Files and folders that are whole or absent: written beside their place, then renamed into it."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """A path to write to; it takes the place of `path` when the block ends, and vanishes if the block raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill; it takes the place of `path` when the block ends, and vanishes if the block raises."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        shutil.rmtree(path, ignore_errors=True)
        beside.replace(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    """Sorted, indented, with a final newline: the same value is the same bytes. NaN is refused, as JSON has none."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with replacing_file(path) as beside:
        beside.write_text(text + "\n", encoding="utf-8")
