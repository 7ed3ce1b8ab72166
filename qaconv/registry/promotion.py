"""Promote a registered version to champion, or roll the champion back.

`<name>@champion` decides: it names a pair of graphs, and moving it is one write of the registry. Everything else
follows from it: the graphs' own aliases, for users who load a graph by alias, the alias previous, and the tags of the
champion. `_align` sets them before and after every change, and so completes what a killed process has left.

A site has aliases of its own, such as champion-station, for versions that were adapted to it. Where it has none, the
champion for all targets answers for it.
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
    SITE,
    WEIGHTS,
    Release,
    alias_of,
    find_champion,
    find_holder,
    find_release,
    is_release,
    load_evidence,
    load_served,
)
from qaconv.release.evidence import Evidence
from qaconv.release.gate import Outcome, decide
from qaconv.release.site_evidence import SiteEvidence
from qaconv.release.site_gate import decide_site

GATE = "gate"  # tag: "promoted" for every version that is or was the champion, else "refused"
PROMOTION = "promotion"  # tag: why
REPLACED = "promoted_over"  # tag: the champions before a version, the latest first
ROLLED_BACK = "rolled_back"  # tag: why


def promote(challenger: Release, rules: GateConfig) -> Outcome:
    """Make the challenger champion, of its site if it has one, if the gate allows it; write the outcome to its tags.

    A version that was rolled back stays refused, as it has not changed.

    Raises:
        InputError: another promotion is running, the champion or the challenger cannot be read, or someone has removed
            the alias champion.
    """
    with locked(challenger.name) as lock:
        champion = _align(lock, challenger.name, challenger.site)
        outcome = _judge(challenger, champion, rules)
        if outcome.promoted:
            load_served(challenger)
            with _all_or_nothing(lock, challenger.name, challenger.site):
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

    A site whose champion was its first one is answered by the champion for all targets again.

    Args:
        name: name of the registered model.
        version: the champion to leave, of all targets or of a site, so that two people who roll back at once go one
            version back.
        why: reason, kept in the tags of the version that is rolled back.

    Returns:
        The version that was rolled back, and the new champion.

    Raises:
        InputError: `version` is not the champion, no earlier champion exists or it cannot be read, `why` is empty, or a
            promotion is running.
    """
    if not why.strip():
        raise InputError("--why must be a sentence that says why, got an empty one")
    asked = find_release(name, version) if version.isdigit() else None
    site = asked.site if asked else None
    find_champion(name, site)
    with locked(name) as lock:
        champion = _align(lock, name, site) or find_champion(name, site)
        if champion.version != version:
            of_site = f" of {site}" if site else ""
            raise InputError(f"{name}: version {version} is not the champion{of_site}, version {champion.version} is")
        previous = next(_earlier(champion), None)
        if previous is None and site is None:
            raise InputError(f"{champion}: no earlier champion exists, so there is none to return to")
        answers_next = previous or find_champion(name)
        load_served(answers_next)
        with _all_or_nothing(lock, name, site):
            _tag(lock, champion, ROLLED_BACK, why)
            if previous:
                _point_champion(lock, previous)
            else:
                _set_aliases(lock, alias_of("champion", site), {name: None})
        return champion, answers_next


def _judge(challenger: Release, champion: Release | None, rules: GateConfig) -> Outcome:
    if champion and champion.version == challenger.version:
        return Outcome("unchanged", f"{challenger} is the champion already.")
    if why := _tags(challenger).get(ROLLED_BACK):
        return Outcome("refused", f"{challenger} was rolled back: {why}")
    if champion is None and (earlier := next(_earlier(challenger), None)):
        alias = alias_of("champion", challenger.site)
        raise InputError(
            f"{challenger.name}: no version has the alias {alias}, though {earlier} had it, so there is none to "
            "compare with; set the alias on the version to serve, on its page in MLflow, and try again"
        )
    evidence = load_evidence(challenger)
    if evidence is None:
        return Outcome("refused", f"{challenger} has no evidence.json, without which no version is promoted")
    champion_evidence = load_evidence(champion) if champion else None
    if champion and champion_evidence is None:
        return Outcome("refused", f"{champion}, the champion, has no evidence.json to compare {challenger} with")
    if isinstance(evidence, SiteEvidence):
        assert champion_evidence is None or isinstance(champion_evidence, SiteEvidence)
        for_all = find_holder(challenger.name, "champion", None)
        weights = _tags(for_all).get(WEIGHTS) if for_all else None
        outcome = decide_site(evidence, champion_evidence, weights, rules)
    else:
        assert champion_evidence is None or isinstance(champion_evidence, Evidence)
        outcome = decide(evidence, champion_evidence, rules)
    of_site = f" of {challenger.site}" if challenger.site else ""
    result = f"becomes the champion{of_site}" if outcome.promoted else "is not promoted"
    return Outcome(outcome.verdict, f"{challenger} {result}: {outcome.reason}.", outcome.checks, outcome.figures)


def _earlier(release: Release) -> Iterator[Release]:
    """Yield the champions of its site before a version, the latest first, without those deleted or rolled back.

    After those that the version names come all others: someone may have made it the champion on MLflow's page.
    """
    found = MlflowClient().search_model_versions(f"name = '{release.name}'")
    same_site = (version for version in found if is_release(version) and version.tags.get(SITE) == release.site)
    versions = {str(version.version): version for version in same_site}
    named = _tags(release).get(REPLACED, "").split()
    others = [number for number, version in versions.items() if version.tags.get(GATE) == "promoted"]
    for number in dict.fromkeys([*named, *sorted(others, key=int, reverse=True)]):
        version = versions.get(number)
        if version and number != release.version and ROLLED_BACK not in version.tags:
            yield Release.of_version(version)


@contextmanager
def _all_or_nothing(lock: Lock, name: str, site: str | None) -> Iterator[None]:
    """Complete a change whose alias champion has moved, and undo one that ended before."""
    try:
        yield
    finally:
        _align(lock, name, site)


def _align(lock: Lock, name: str, site: str | None) -> Release | None:
    """Make other aliases and the champion's tags follow the alias champion, of a site its own; return its release."""
    champion = find_holder(name, "champion", site)
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
    _set_aliases(lock, alias_of("champion", site), graphs)
    before = previous.models if previous else dict.fromkeys([*graphs, name])
    _set_aliases(lock, alias_of("previous", site), before)
    return champion


def _point_champion(lock: Lock, release: Release) -> None:
    """Make a release the champion, of its site if it has one; the model that decides comes last."""
    alias = alias_of("champion", release.site)
    _set_aliases(lock, alias, release.graphs)
    lock.renew()
    MlflowClient().set_registered_model_alias(release.name, alias, release.version)


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
