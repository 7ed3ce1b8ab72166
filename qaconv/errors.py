"""Errors that a user can correct."""

from collections.abc import Iterable
from tempfile import NamedTemporaryFile


class InputError(ValueError):
    """Input that a user can correct.

    The message names the file or key, what it must be, and what was found.
    """


# The extra of pyproject.toml that brings a package, by the package's module.
EXTRAS = {
    **dict.fromkeys(("jinja2", "matplotlib", "onnx", "onnx_ir", "onnxscript", "torch", "torchvision"), "train"),
    **dict.fromkeys(("boto3", "dvc", "mlflow", "prefect", "sqlalchemy"), "ops"),
    **dict.fromkeys(("fastapi", "httpx", "hypercorn", "msgpack", "prometheus_client"), "serve"),
    "timm": "timm",
    "av": "video",
    "ray": "ray",
}


def missing_package(module: str) -> str:
    """Return the message about a package of EXTRAS that is not installed.

    Example:
        >>> missing_package("timm")
        "the package timm is not installed: pip install 'qaconv[timm]'"
    """
    return f"the package {module} is not installed: pip install 'qaconv[{EXTRAS[module]}]'"


def name_first(items: Iterable[object], limit: int = 10) -> str:
    """Return the first items, one on each line: the end of a message about many files.

    If there are more, the total follows, and the name of a temporary file that has them all.

    Args:
        items: what to list.
        limit: number of items to list. Default: 10.
    """
    names = [str(item) for item in items]
    shown = "".join(f"\n  {name}" for name in names[:limit])
    if len(names) <= limit:
        return shown
    with NamedTemporaryFile("w", prefix="qaconv-", suffix=".txt", delete=False, encoding="utf-8") as file:
        file.write("\n".join(names) + "\n")
    return f"{shown}\n  ... {len(names)} in all, listed in {file.name}"
