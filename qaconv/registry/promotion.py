"""Promote a registered version to champion, or roll the champion back.

`<name>@champion` decides: it names a pair of graphs. The graphs' own aliases follow it, for users who load a graph by
alias. One process at a time moves them, on any machine, by a lock in the registry.
"""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

from qaconv.config import GateConfig
from qaconv.errors import InputError
from qaconv.registry.releases import Release, find_release, load_evidence
from qaconv.release.gate import Outcome, decide

LOCK_WAIT_S = 60  # a promotion takes a second or two
LOCK_STALE_S = 600  # a process that holds it that long was killed
REPLACED = "promoted_over"  # tag: the version that was champion before
ROLLED_BACK = "rolled_back"  # tag: why


def promote(challenger: Release, rules: GateConfig) -> Outcome:
    """Make the challenger champion if the gate allows it, and write the outcome to its tags.

    A version that was rolled back stays refused, as it has not changed.

    Raises:
        InputError: another promotion is running.
    """
    with _locked(challenger.name):
        champion = find_release(challenger.name, "champion")
        outcome = _judge(challenger, champion, rules)
        if outcome.verdict != "unchanged":  # the reason why it became champion stays
            _tag(challenger, gate=outcome.verdict, promotion=outcome.reason)
        if outcome.promoted:
            _replace(champion, challenger)
        elif champion:
            _point("champion", champion.models)  # repairs what a killed promotion may have left
        return outcome


def rollback(name: str, why: str) -> tuple[Release, Release]:
    """Make the previous champion champion again.

    Args:
        name: name of the registered model.
        why: reason, kept in the tags of the version that is rolled back.

    Returns:
        The version that was rolled back, and the new champion.

    Raises:
        InputError: there is no previous champion, `why` is empty, or a promotion is running.
    """
    if not why.strip():
        raise InputError("--why must be a sentence that says why, got an empty one")
    with _locked(name):
        champion = find_release(name, "champion")
        previous = find_release(name, "previous")
        if champion is None or previous is None:
            missing = "previous" if champion else "champion"
            raise InputError(f"{name}: no version has the alias {missing}, so there is none to return to")
        _point("champion", previous.models)
        before = MlflowClient().get_model_version(name, previous.version).tags.get(REPLACED)
        earlier = find_release(name, before) if before else None
        _point("previous", earlier.models if earlier else dict.fromkeys(previous.models))
        _tag(champion, **{ROLLED_BACK: why})
        return champion, previous


def _judge(challenger: Release, champion: Release | None, rules: GateConfig) -> Outcome:
    if champion and champion.version == challenger.version:
        return Outcome("unchanged", f"{challenger} is the champion already.")
    if why := MlflowClient().get_model_version(challenger.name, challenger.version).tags.get(ROLLED_BACK):
        return Outcome("refused", f"{challenger} was rolled back: {why}")
    evidence = load_evidence(challenger)
    if evidence is None:
        return Outcome("refused", f"{challenger} has no evidence.json, without which no version is promoted")
    champion_evidence = load_evidence(champion) if champion else None
    if champion and champion_evidence is None:
        return Outcome("refused", f"{champion}, the champion, has no evidence.json to compare {challenger} with")
    outcome = decide(evidence, champion_evidence, rules)
    result = "becomes the champion" if outcome.promoted else "is not promoted"
    return Outcome(outcome.verdict, f"{challenger} {result}: {outcome.reason}.", outcome.checks, outcome.figures)


def _replace(old: Release | None, new: Release) -> None:
    """Set the alias previous first, so that a process killed in between leaves a champion with the right alias."""
    if old:
        _tag(new, **{REPLACED: old.version})
        _point("previous", old.models)
    _point("champion", new.models)


def _point(alias: str, models: Mapping[str, str | None]) -> None:
    """Move an alias to a version of each model, or remove it where the version is None; if one fails, undo all.

    The model that names the pair comes last, so that a process killed in between leaves it on the old pair.
    """
    client = MlflowClient()
    before: dict[str, str | None] = {}
    try:
        for name, version in models.items():
            before[name] = client.get_registered_model(name).aliases.get(alias)
            _set_alias(client, name, alias, version)
    except BaseException:
        for name, old in before.items():
            _set_alias(client, name, alias, old)
        raise


def _set_alias(client: MlflowClient, name: str, alias: str, version: str | None) -> None:
    if version is None:
        client.delete_registered_model_alias(name, alias)
    else:
        client.set_registered_model_alias(name, alias, version)


def _tag(release: Release, **tags: str) -> None:
    for key, value in tags.items():
        MlflowClient().set_model_version_tag(release.name, release.version, key, value)


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Hold the name `<name>-promoting` in the registry, where no name can be created twice.

    Raises:
        InputError: another process holds it for longer than a minute.
    """
    client, lock = MlflowClient(), f"{name}-promoting"
    deadline = time.monotonic() + LOCK_WAIT_S
    while not _try_lock(client, lock):
        if time.monotonic() > deadline:
            holder = client.get_registered_model(lock).description
            raise InputError(f"{name}: {holder} is promoting or rolling back; try again after at most ten minutes")
        time.sleep(0.2)
    try:
        yield
    finally:
        client.delete_registered_model(lock)


def _try_lock(client: MlflowClient, lock: str) -> bool:
    try:
        client.create_registered_model(lock, description=f"process {os.getpid()} on {socket.gethostname()}")
        return True
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    try:
        if time.time() - client.get_registered_model(lock).creation_timestamp / 1000 > LOCK_STALE_S:
            client.delete_registered_model(lock)
    except MlflowException:
        pass  # its holder has just released it
    return False
