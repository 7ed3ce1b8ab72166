"""Promote a registered version to champion, or roll the champion back.

`<name>@champion` decides: it names a pair of graphs, and moving it is one write of the registry. Everything else
follows from it: the graphs' own aliases, for users who load a graph by alias, the alias previous, and the tags of the
champion. `_align` sets them before and after every change, and so completes what a killed process has left.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from qaconv.config.operation import GateConfig
from qaconv.errors import InputError
from qaconv.registry.locking import Lock, is_missing, locked
from qaconv.registry.releases import (
    GRAPHS,
    Release,
    find_champion,
    find_release,
    is_release,
    load_evidence,
    load_served,
)
from qaconv.release.gate import Outcome, decide

GATE = "gate"  # tag: "promoted" for every version that is or was the champion, else "refused"
PROMOTION = "promotion"  # tag: why
REPLACED = "promoted_over"  # tag: the champions before a version, the latest first
ROLLED_BACK = "rolled_back"  # tag: why


def promote(challenger: Release, rules: GateConfig) -> Outcome:
    """Make the challenger champion if the gate allows it, and write the outcome to its tags.

    A version that was rolled back stays refused, as it has not changed.

    Raises:
        InputError: another promotion is running, the champion or the challenger cannot be read, or someone has removed
            the alias champion.
    """
    with locked(challenger.name) as lock:
        champion = _align(lock, challenger.name)
        outcome = _judge(challenger, champion, rules)
        if outcome.promoted:
            load_served(challenger)
            with _all_or_nothing(lock, challenger.name):
                if champion:
                    before = [champion.version, *_tags(champion).get(REPLACED, "").split()]
                    _tag(lock, challenger, REPLACED, " ".join(before))
                _tag(lock, challenger, PROMOTION, outcome.reason)
                _point_champion(lock, challenger)
        elif outcome.verdict == "refused" and _tags(challenger).get(GATE) != "promoted":
            _tag(lock, challenger, GATE, outcome.verdict)
            _tag(lock, challenger, PROMOTION, outcome.reason)
        return outcome


def rollback(name: str, version: str, why: str) -> tuple[Release, Release]:
    """Make the champion before the present one champion again.

    Args:
        name: name of the registered model.
        version: the champion to leave, so that two people who roll back at once go one version back.
        why: reason, kept in the tags of the version that is rolled back.

    Returns:
        The version that was rolled back, and the new champion.

    Raises:
        InputError: `version` is not the champion, no earlier champion exists or it cannot be read, `why` is empty, or a
            promotion is running.
    """
    if not why.strip():
        raise InputError("--why must be a sentence that says why, got an empty one")
    find_champion(name)
    with locked(name) as lock:
        champion = _align(lock, name) or find_champion(name)
        if champion.version != version:
            raise InputError(f"{name}: version {version} is not the champion, version {champion.version} is")
        previous = next(_earlier(champion), None)
        if previous is None:
            raise InputError(f"{champion}: no earlier champion exists, so there is none to return to")
        load_served(previous)
        with _all_or_nothing(lock, name):
            _tag(lock, champion, ROLLED_BACK, why)
            _point_champion(lock, previous)
        return champion, previous


def _judge(challenger: Release, champion: Release | None, rules: GateConfig) -> Outcome:
    if champion and champion.version == challenger.version:
        return Outcome("unchanged", f"{challenger} is the champion already.")
    if why := _tags(challenger).get(ROLLED_BACK):
        return Outcome("refused", f"{challenger} was rolled back: {why}")
    if champion is None and (earlier := next(_earlier(challenger), None)):
        raise InputError(
            f"{challenger.name}: no version has the alias champion, though {earlier} had it, so there is none to "
            "compare with; set the alias on the version to serve, on its page in MLflow, and try again"
        )
    evidence = load_evidence(challenger)
    if evidence is None:
        return Outcome("refused", f"{challenger} has no evidence.json, without which no version is promoted")
    champion_evidence = load_evidence(champion) if champion else None
    if champion and champion_evidence is None:
        return Outcome("refused", f"{champion}, the champion, has no evidence.json to compare {challenger} with")
    outcome = decide(evidence, champion_evidence, rules)
    result = "becomes the champion" if outcome.promoted else "is not promoted"
    return Outcome(outcome.verdict, f"{challenger} {result}: {outcome.reason}.", outcome.checks, outcome.figures)


def _earlier(release: Release) -> Iterator[Release]:
    """Yield the champions before a version, the latest first, without those that were deleted or rolled back.

    After those that the version names come all others: someone may have made it the champion on MLflow's page.
    """
    found = MlflowClient().search_model_versions(f"name = '{release.name}'")
    versions = {str(version.version): version for version in found if is_release(version)}
    named = _tags(release).get(REPLACED, "").split()
    others = [number for number, version in versions.items() if version.tags.get(GATE) == "promoted"]
    for number in dict.fromkeys([*named, *sorted(others, key=int, reverse=True)]):
        version = versions.get(number)
        if version and number != release.version and ROLLED_BACK not in version.tags:
            yield Release.of_version(version)


@contextmanager
def _all_or_nothing(lock: Lock, name: str) -> Iterator[None]:
    """Complete a change whose alias champion has moved, and undo one that ended before."""
    try:
        yield
    finally:
        _align(lock, name)


def _align(lock: Lock, name: str) -> Release | None:
    """Make the other aliases and the champion's tags follow `<name>@champion`, and return the champion."""
    champion = find_release(name, "champion")
    previous = None
    graphs: Mapping[str, str | None] = {f"{name}-{graph}": None for graph in GRAPHS}
    if champion:
        graphs = champion.graphs
        previous = next(_earlier(champion), None)
        tags = _tags(champion)
        if tags.get(GATE) != "promoted":
            _tag(lock, champion, GATE, "promoted")
        if ROLLED_BACK in tags:  # its rollback was interrupted, or someone has made it the champion again
            lock.renew()
            MlflowClient().delete_model_version_tag(name, champion.version, ROLLED_BACK)
    _set_aliases(lock, "champion", graphs)
    _set_aliases(lock, "previous", previous.models if previous else dict.fromkeys([*graphs, name]))
    return champion


def _point_champion(lock: Lock, release: Release) -> None:
    """Make a release the champion; the model that decides comes last."""
    _set_aliases(lock, "champion", release.graphs)
    lock.renew()
    MlflowClient().set_registered_model_alias(release.name, "champion", release.version)


def _set_aliases(lock: Lock, alias: str, versions: Mapping[str, str | None]) -> None:
    """Move an alias to a version of each model; remove it where the version is None or was deleted."""
    client = MlflowClient()
    for name, version in versions.items():
        try:
            present = client.get_registered_model(name).aliases.get(alias)
            target = version if version and _exists(name, version) else None
            if target is None and present is not None:
                lock.renew()
                client.delete_registered_model_alias(name, alias)
            elif target is not None and str(present) != target:
                lock.renew()
                client.set_registered_model_alias(name, alias, target)
        except MlflowException as error:
            if not is_missing(error):  # the model itself: a release holds a copy of its graphs
                raise


def _exists(name: str, version: str) -> bool:
    try:
        MlflowClient().get_model_version(name, version)
    except MlflowException as error:
        if not is_missing(error):
            raise
        return False
    return True


def _tags(release: Release) -> dict[str, str]:
    try:
        return dict(MlflowClient().get_model_version(release.name, release.version).tags)
    except MlflowException as error:
        if not is_missing(error):
            raise
        raise InputError(f"{release}: was deleted from the registry; retrain registers it again") from error


def _tag(lock: Lock, release: Release, key: str, value: str) -> None:
    lock.renew()
    MlflowClient().set_model_version_tag(release.name, release.version, key, value)
