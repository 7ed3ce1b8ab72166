"""Check that a version's files are those that it was registered with, and that it runs."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from qaconv.errors import InputError
from qaconv.files import write_json
from qaconv.runtime.contract import CONTRACT, Contract

DIGESTS = "digests.json"  # sha256 of the files that the contract has no digest of
GREY = 127


def write_digests(folder: Path) -> None:
    """Write the digests of a version's contract and temporal profiles, once they are complete."""
    paths = [folder / CONTRACT, *sorted((folder / "tlift").glob("*.json"))]
    write_json(folder / DIGESTS, {path.relative_to(folder).as_posix(): _digest(path) for path in paths})


def check_files(folder: Path, contract: Contract) -> None:
    """Check a version's graphs by the contract, and its contract and profiles by digests.json if it has one.

    Raises:
        InputError: a file is missing or has another digest, or digests.json is damaged.
    """
    digests = {name: graph.sha256 for name, graph in contract.graphs.items()}
    if (folder / DIGESTS).is_file():
        digests |= _read_digests(folder / DIGESTS)
    for name, expected in digests.items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path}: file not found")
        if (digest := _digest(path)) != expected:
            raise InputError(f"{path}: must have the sha256 {expected[:12]}..., got {digest[:12]}...; it is damaged")


def _read_digests(path: Path) -> dict[str, str]:
    try:
        return TypeAdapter(dict[str, str]).validate_json(path.read_bytes())
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise InputError(f"{path}: must hold the sha256 of files by name: {reason}; it is damaged") from error


def check_example(
    folder: Path,
    crop_size: tuple[int, int],
    encode: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    score: Callable[[NDArray[np.float32], NDArray[Any]], NDArray[np.float32]],
) -> None:
    """Encode a grey crop and match it with itself.

    Args:
        folder: of the version, for the message.
        crop_size: (H, W) of the contract.
        encode: crops to maps.
        score: maps to logits.

    Raises:
        InputError: the crop does not fit the encoder, or the logit is not a finite number.
    """
    crop = np.full((1, *crop_size, 3), GREY, dtype=np.uint8)
    try:
        maps = encode(crop)
        (logit,) = score(maps, maps).ravel()
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise InputError(f"{folder}: cannot encode and match a crop of the contract's size: {error}") from error
    if not np.isfinite(logit):
        raise InputError(f"{folder}: the logit of a grey crop must be a finite number, got {logit}")


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
