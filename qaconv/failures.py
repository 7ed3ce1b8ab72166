"""Explain the errors that a person at a terminal can correct, in one message; the others keep their traceback."""

import errno
import socket
import sys
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from qaconv.errors import EXTRAS, InputError, missing_package

ANSWER_S = 5.0  # seconds within which a server must answer
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
REFUSED_BY_THE_SYSTEM = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


def explain(error: BaseException) -> str | None:
    """Return the message about an error that a person can correct; None for another error.

    These are an `InputError`, a package of an extra that is not installed, a file or folder that the system refuses to
    read or write, and what MLflow refuses.
    """
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        return missing_package(error.name)
    if isinstance(error, OSError) and error.errno in REFUSED_BY_THE_SYSTEM:
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    mlflow = sys.modules.get("mlflow")  # where it has not been imported, the error is not MLflow's
    if mlflow is not None and isinstance(error, mlflow.MlflowException):
        return f"MLflow: {str(error.message).splitlines()[0]}"
    return None


def require_answer(variable: str, address: str, health: str) -> None:
    """Check that a server answers within ANSWER_S, as its clients try again for minutes.

    Args:
        variable: the environment variable with its address, named in messages.
        address: `http://...`, or the address of a database.
        health: path below an HTTP address that answers without a password.

    Raises:
        InputError: it does not answer, or is not the server that the variable should name.
    """
    parts = urlsplit(address)
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    try:
        if parts.scheme in ("http", "https"):
            _require_health(f"{shown.rstrip('/')}{health}", f"{variable} {shown}")
        elif parts.hostname:
            port = parts.port or PORTS.get(parts.scheme.partition("+")[0], 0)
            socket.create_connection((parts.hostname, port), ANSWER_S).close()
        elif parts.scheme == "sqlite":
            _require_folder(Path(parts.path.removeprefix("/")), variable)
    except InputError:
        raise
    except (OSError, ValueError, HTTPException) as error:
        raise InputError(
            f"{variable} {shown}: does not answer within {ANSWER_S:g} s: {getattr(error, 'reason', error)}; correct "
            "the address or start the server (`make status` shows the local ones)"
        ) from error


def _require_health(url: str, name: str) -> None:
    try:
        with urlopen(url, timeout=ANSWER_S) as answer:  # an error status raises HTTPError
            healthy = answer.read(100).strip() in (b"OK", b"true")
            status = answer.status
    except HTTPError as error:
        healthy = error.code in (401, 403)  # a proxy asks for the password; the client will send it
        status = error.code
    if not healthy:
        raise InputError(f"{name}: must be the server's address, but {url} answers {status} as another one would")


def _require_folder(database: Path, variable: str) -> None:
    if not database.parent.is_dir():
        raise InputError(f"{variable}: {database.parent} must be a folder, in which {database.name} is created")
