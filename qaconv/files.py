"""Write files and folders that are complete or absent: write under a temporary name, then rename. Lock files.

Read the files that stages have written.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from qaconv.errors import InputError

Content = TypeVar("Content", bound=BaseModel)


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, to write a file to.

    When the block ends, the file replaces `path`; if the block raises, the file is deleted and `path` is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def locking(path: Path) -> Iterator[None]:
    """Hold the lock of a file that is created if necessary; wait while another thread or process holds it.

    Args:
        path: the lock's file, which is not deleted and holds nothing. The system frees the lock of a killed process.
    """
    import fcntl  # of POSIX, which the rest of this module does not need

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder next to `path`, to fill.

    When the block ends, the folder replaces `path`; if the block raises, it is deleted and `path` is unchanged.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        shutil.rmtree(path, ignore_errors=True)
        unfinished.replace(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    """Write sorted, indented JSON with a final newline: equal values give equal bytes.

    Raises:
        ValueError: `value` contains NaN or an infinity, which JSON cannot represent.
    """
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with replacing_file(path) as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")


def file_version(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a file is written or replaced; None if it is missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


def read_file(reader: Callable[[Path], Any], path: Path) -> Any:
    """Read a file that an earlier stage has written.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return reader(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}; `dvc repro` writes it") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that an earlier stage has written.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    return dict(read_file(lambda file: json.loads(file.read_text(encoding="utf-8")), path))


def read_model(kind: type[Content], path: Path, stage: str) -> Content:
    """Read a JSON file of a fixed form.

    Args:
        kind: the form.
        path: of the file.
        stage: that writes it, which the message of a damaged file names.

    Raises:
        InputError: the file does not exist, or does not have the form.
    """
    try:
        return kind.model_validate_json(read_file(Path.read_bytes, path))
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(map(str, fault["loc"]))
        raise InputError(f"{path}: {name}: {fault['msg']}; `dvc repro {stage}` writes it") from error
