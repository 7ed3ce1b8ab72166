"""API keys: who sends a request, and what the key allows.

A key is 256 random bits, so its plain SHA-256 does not reveal it.
"""

import hmac
import json
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from fastapi import Depends, HTTPException, Request
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from qaconv.errors import InputError
from qaconv.files import file_version, locking, write_json

log = logging.getLogger(__name__)

Scope = Literal["search", "enrol", "identify", "delete", "review", "metrics", "replicate"]
SCOPES: tuple[str, ...] = get_args(Scope)
HEADER = "X-API-Key"
NO_KEY = f"a key is missing or unknown; send it as {HEADER}"


@dataclass(frozen=True)
class Caller:
    """The sender of a request.

    Attributes:
        name: name of the key.
        scopes: what the key allows.
        targets: where it allows that. Default: everywhere.
    """

    name: str
    scopes: frozenset[str]
    targets: frozenset[str] | None = None


# The caller of a service without keys, which listens on this machine alone. No other request gets it.
ANYONE = Caller("anyone", frozenset(SCOPES))


class _Entry(BaseModel):
    """An entry of a file of keys."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    scopes: list[Scope]
    targets: list[str] | None


class Keys:
    """The keys of a file, {name: {sha256, scopes, targets}}. The file is read again when it changes.

    Raises:
        InputError: the file is missing, or is not a file of keys.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version = file_version(path)
        self._callers = _read_callers(path)

    def caller(self, key: str) -> Caller | None:
        """Find the caller that a key belongs to, in a time that does not depend on the key.

        While the file is missing or invalid no key is known, as the one that was removed cannot be told.
        """
        version = file_version(self._path)
        if version != self._version:
            self._version = version
            try:
                self._callers = _read_callers(self._path)
            except InputError as error:
                self._callers = {}
                log.error("no key is accepted: %s", error)
        digest = _digest(key)
        match = None
        for known, caller in self._callers.items():
            if hmac.compare_digest(known, digest):
                match = caller
        return match


def add_key(path: Path, name: str, scopes: Sequence[str], targets: Sequence[str] | None) -> str:
    """Make a key and add its hash to the file. The key itself is returned and kept nowhere.

    Raises:
        InputError: a scope is unknown, the folder does not exist, the name is taken, or the file is not a file of keys.
    """
    if unknown := sorted(set(scopes) - set(SCOPES)):
        raise InputError(f"unknown scopes {unknown}, allowed: {', '.join(SCOPES)}")
    if not path.parent.is_dir():
        raise InputError(f"--keys {path}: its folder must exist, got no folder {path.parent}")
    key = secrets.token_urlsafe(32)
    entry = {"sha256": _digest(key), "scopes": sorted(scopes), "targets": sorted(targets or []) or None}
    with locking(path.with_name(f".{path.name}.lock")):
        entries = {known: value.model_dump() for known, value in _read(path).items()} if path.exists() else {}
        if name in entries:
            raise InputError(f"{path}: already has a key {name!r}; delete that entry first, or choose another name")
        write_json(path, {**entries, name: entry})
    return key


def require_scope(scope: str) -> Any:
    """Return a dependency that refuses a caller without the scope, or without the path's target."""

    def check(
        request: Request, key: Annotated[str | None, Depends(APIKeyHeader(name=HEADER, auto_error=False))]
    ) -> Caller:
        caller: Caller | None = request.state.caller
        if caller is None:
            raise HTTPException(401, NO_KEY)
        target = request.path_params.get("target")
        if scope not in caller.scopes:
            raise HTTPException(403, f"key {caller.name!r} needs the scope {scope}, it has {sorted(caller.scopes)}")
        if caller.targets is not None and target is not None and target not in caller.targets:
            raise HTTPException(403, f"key {caller.name!r} is not for {target}")
        return caller

    return Depends(check)


def _read_callers(path: Path) -> dict[str, Caller]:
    """Return the caller of each key's digest."""
    return {
        entry.sha256: Caller(name, frozenset(entry.scopes), None if entry.targets is None else frozenset(entry.targets))
        for name, entry in _read(path).items()
    }


def _read(path: Path) -> dict[str, _Entry]:
    """Read the entries by name. A message names the entry, and never shows a value, which may be a key."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
        entries = TypeAdapter(dict[str, _Entry]).validate_python(content)
        if len({entry.sha256 for entry in entries.values()}) < len(entries):
            raise ValueError("two names have the same sha256")
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        hint = "; rename 'deployments' to 'targets'" if any("deployments" in fault for fault in faults) else ""
        raise InputError(_not_keys(path, "; ".join(faults) + hint)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(_not_keys(path, str(error))) from error
    return entries


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"a name stands twice among {', '.join(sorted(name for name, _ in pairs))}")
    return values


def _not_keys(path: Path, reason: str) -> str:
    return f"{path}: must be a file of keys: {reason}; `qaconv serve-key` writes it"


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()
