"""A file of hashed API keys goes in; who a request comes from, and what it may do, comes out.

A key is 256 random bits, so that its plain SHA-256 tells nothing about it.
"""

import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from qaconv.errors import InputError
from qaconv.files import write_json

SCOPES = ("search", "enrol", "delete", "metrics")


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        name: of the key.
        scopes: what it may do.
        targets: where; None is everywhere.
    """

    name: str
    scopes: frozenset[str]
    targets: frozenset[str] | None = None


# The caller of a service that was started without keys, which listens on this machine alone. No other request gets it.
ANYONE = Caller("anyone", frozenset(SCOPES))


class Keys:
    """The keys of a file, {name: {sha256, scopes, targets}}.

    Raises:
        InputError: the file is missing or is none of keys.
    """

    def __init__(self, path: Path) -> None:
        self._callers: dict[str, Caller] = {}
        for name, entry in _read(path).items():
            targets = entry.get("targets")
            caller = Caller(name, frozenset(entry["scopes"]), None if targets is None else frozenset(targets))
            self._callers[entry["sha256"]] = caller

    def caller(self, key: str) -> Caller | None:
        """Whose key this is. Every entry is compared, so that time tells nothing."""
        digest, found = _digest(key), None
        for known, caller in self._callers.items():
            if hmac.compare_digest(known, digest):
                found = caller
        return found


def add_key(path: Path, name: str, scopes: Sequence[str], targets: Sequence[str] | None) -> str:
    """Makes a key, keeps its hash in the file, and gives the key itself, which is nowhere else.

    Raises:
        InputError: a scope is unknown, or the name is taken.
    """
    if unknown := sorted(set(scopes) - set(SCOPES)):
        raise InputError(f"scopes: {unknown} are unknown; legal are {', '.join(SCOPES)}")
    entries = _read(path) if path.exists() else {}
    if name in entries:
        raise InputError(f"{path}: has a key {name!r}; delete that entry first, or take another name")
    key = secrets.token_urlsafe(32)
    entry = {"sha256": _digest(key), "scopes": sorted(scopes), "targets": sorted(targets or []) or None}
    write_json(path, {**entries, name: entry})
    return key


def _read(path: Path) -> dict[str, dict]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        for name, entry in entries.items():
            if "deployments" in entry:
                raise ValueError(f"{name!r} names its targets 'deployments'; rename that to 'targets'")
            if set(entry) != {"sha256", "scopes", "targets"} or set(entry["scopes"]) - set(SCOPES):
                raise ValueError(f"{name!r} has {sorted(entry)} and scopes {entry.get('scopes')}")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is no file of keys: {error}; `qaconv serve-key` writes it") from error
    return entries


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()
