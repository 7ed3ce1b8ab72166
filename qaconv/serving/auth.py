"""API keys: who sends a request, and what the key allows.

A key is 256 random bits, so its plain SHA-256 does not reveal it.
"""

import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request
from fastapi.security import APIKeyHeader

from qaconv.errors import InputError
from qaconv.files import write_json

SCOPES = ("search", "enrol", "delete", "metrics")
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


class Keys:
    """The keys of a file, {name: {sha256, scopes, targets}}.

    Raises:
        InputError: the file is missing, or is not a file of keys.
    """

    def __init__(self, path: Path) -> None:
        self._callers: dict[str, Caller] = {}
        for name, entry in _read(path).items():
            targets = entry.get("targets")
            caller = Caller(name, frozenset(entry["scopes"]), None if targets is None else frozenset(targets))
            self._callers[entry["sha256"]] = caller

    def caller(self, key: str) -> Caller | None:
        """Find the caller that a key belongs to, in a time that does not depend on the key."""
        digest = _digest(key)
        match = None
        for known, caller in self._callers.items():
            if hmac.compare_digest(known, digest):
                match = caller
        return match


def add_key(path: Path, name: str, scopes: Sequence[str], targets: Sequence[str] | None) -> str:
    """Make a key and add its hash to the file. The key itself is returned and kept nowhere.

    Raises:
        InputError: a scope is unknown, or the name is taken.
    """
    if unknown := sorted(set(scopes) - set(SCOPES)):
        raise InputError(f"unknown scopes {unknown}, allowed: {', '.join(SCOPES)}")
    entries = _read(path) if path.exists() else {}
    if name in entries:
        raise InputError(f"{path}: already has a key {name!r}; delete that entry first, or choose another name")
    key = secrets.token_urlsafe(32)
    entry = {"sha256": _digest(key), "scopes": sorted(scopes), "targets": sorted(targets or []) or None}
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


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        entries: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        for name, entry in entries.items():
            if "deployments" in entry:
                raise ValueError(f"{name!r} names its targets 'deployments'; rename that to 'targets'")
            if set(entry) != {"sha256", "scopes", "targets"} or set(entry["scopes"]) - set(SCOPES):
                raise ValueError(f"{name!r} has {sorted(entry)} and scopes {entry.get('scopes')}")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: must be a file of keys: {error}; `qaconv serve-key` writes it") from error
    return entries


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()
