"""A network that was adapted to a site has a champion of its own, next to the one for all targets."""

import contextlib
import json
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from qaconv.config import Params
from qaconv.errors import InputError
from qaconv.registry import Release, find_champion, find_release, promotion
from qaconv.registry.promotion import promote, rollback
from qaconv.registry.releases import alias_of, find_holder
from qaconv.registry.runs import retraining_run
from qaconv.registry.sites import adapted_rows, register_adapted
from tests.tracked_projects import ADAPTED_MODEL, MODEL, MODELS, adapt, retrain, write, write_adapted


def holders(alias: str) -> set[str]:
    """Return the version that an alias names in each registered model; "None" where it names none."""
    return {str(MlflowClient().get_registered_model(name).aliases.get(alias)) for name in MODELS}


def tags(release: Release) -> dict[str, str]:
    return dict(MlflowClient().get_model_version(release.name, release.version).tags)


def test_a_site_gets_a_champion_with_its_lineage_and_all_others_stay(registered: Params) -> None:
    release, outcome = adapt(registered)
    assert outcome.promoted, outcome.reason
    assert "right matches of 20 people, by times alone, change by +10.00 points" in outcome.reason
    assert (release.version, release.site) == ("2", "station")
    assert find_champion("qaconv", "station").version == "2"
    assert find_champion("qaconv", "mall").version == find_champion("qaconv").version == "1"
    assert (holders("champion"), holders("champion-station"), holders("challenger-station")) == ({"1"}, {"2"}, {"2"})
    lineage = tags(release)
    assert (lineage["began_with"], lineage["kept_round"], lineage["weights"]) == (MODEL, "1", ADAPTED_MODEL)
    assert lineage["by_camera"] == "false"


def test_a_network_that_stays_as_trained_has_the_figures_of_the_one_as_trained(registered: Params) -> None:
    figures = {"expected_precision": 0.75}
    metrics = {"kept_round": 0, "reason": "times are not used", "right": None, "before": figures, "after": figures}
    write(Path("artifacts/adapted/station/metrics.json"), json.dumps(metrics))
    adapted = registered.adapt.model_copy(update={"targets": ["station"]})
    first, second = adapted_rows(registered.model_copy(update={"adapt": adapted}))
    assert second.pop("network") == "adapted: stays as trained" and first.pop("network") == "as trained"
    assert second | {"change, 95 %": ""} == first
    assert (first["right by times"], first["right pairs of identities"]) == ("–", "75.0")


def test_the_same_adaptation_is_not_registered_twice(registered: Params) -> None:
    first, _ = adapt(registered)
    with retraining_run(registered, {}):
        again = register_adapted(registered, "station")
        assert promote(again, registered.gate).verdict == "unchanged"
    assert again == first


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({"low": -0.01}, r"gain: .* -1\.00 to \+20\.00 with 95 % confidence; they must rise, with a lower end"),
        ({"began_with": "d" * 64}, r"beginning: it must begin with the champion for all targets, bbbbbbbbbbbb"),
    ],
)
def test_an_adaptation_that_breaks_a_rule_is_refused(
    registered: Params, figures: dict[str, float], reason: str
) -> None:
    release, outcome = adapt(registered, **figures)
    assert outcome.verdict == "refused"
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(outcome.reason)
    assert find_champion("qaconv", "station").version == "1"
    assert tags(release)["gate"] == "refused"


def test_a_rollback_of_a_sites_only_champion_lets_that_for_all_answer(registered: Params) -> None:
    release, _ = adapt(registered)
    left, back = rollback("qaconv", "2", "it confuses twins")
    assert (left.version, back.version) == ("2", "1")
    assert holders("champion-station") == {"None"}
    assert find_champion("qaconv", "station").version == "1"
    assert promote(release, registered.gate).reason == "qaconv version 2 was rolled back: it confuses twins"
    with pytest.raises(InputError, match="version 2 is not the champion of station, version 1 is"):
        rollback("qaconv", "2", "said twice")


def test_a_rollback_goes_to_the_sites_champion_before_and_not_to_another_sites(registered: Params) -> None:
    adapt(registered)
    retrain(registered, {"station": 0.5, "mall": 0.6})  # version 3, the champion for all
    release, outcome = adapt(registered, 0.8)
    assert outcome.promoted and holders("previous-station") == {"2"}
    _, back = rollback("qaconv", release.version, "it confuses twins")
    assert back.version == "2"
    assert (holders("champion-station"), holders("previous-station")) == ({"2"}, {"None"})
    assert holders("champion") == {"3"} and holders("previous") == {"1"}


def test_a_sites_champion_is_compared_on_the_same_data(registered: Params) -> None:
    adapt(registered, 0.8)
    _, outcome = adapt(registered, 0.7)
    assert outcome.verdict == "refused"
    assert "the site's champion has 80.0% there, it has 70.0%; it must have at least as many" in outcome.reason


@pytest.mark.parametrize(("alias", "version"), [("champion", "2"), ("champion-station", "1")])
def test_an_alias_that_someone_moved_to_a_version_of_another_site_is_named(
    registered: Params, alias: str, version: str
) -> None:
    adapt(registered)
    MlflowClient().set_registered_model_alias("qaconv", alias, version)
    with pytest.raises(InputError, match=f"qaconv version {version}: has the alias {alias}, but is "):
        find_champion("qaconv", "station" if "-" in alias else None)
    with pytest.raises(InputError, match=f"qaconv version {version}: has the alias {alias}, but is "):
        adapt(registered, 0.8)


def test_a_deleted_champion_of_a_site_leaves_the_one_for_all(registered: Params) -> None:
    adapt(registered)
    MlflowClient().delete_model_version("qaconv", "2")
    assert find_champion("qaconv", "station").version == "1"
    release, outcome = adapt(registered, 0.65)
    assert outcome.promoted and holders("champion-station") >= {release.version}


@pytest.mark.parametrize("writes", range(6))
def test_a_promotion_that_ends_early_leaves_one_champion_with_its_graphs(
    registered: Params, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    adapt(registered)
    calls = 0
    point = promotion._set_aliases

    class Killed(BaseException):
        pass

    def stop(lock: object, alias: str, versions: object) -> None:
        nonlocal calls
        calls += 1
        if calls > writes:
            raise Killed
        point(lock, alias, versions)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(promotion, "_set_aliases", stop)
        with contextlib.suppress(Killed):
            adapt(registered, 0.8)
    release, outcome = adapt(registered, 0.8)
    assert outcome.verdict in ("promoted", "unchanged")
    assert find_champion("qaconv", "station") == release
    assert (holders("champion-station"), holders("previous-station")) == ({release.version}, {"2"})


def test_every_target_has_an_alias_that_mlflow_allows(registered: Params) -> None:
    longest = "A_b-3" * 40
    MlflowClient().set_registered_model_alias("qaconv", alias_of("challenger", longest), "1")
    release = find_release("qaconv", alias_of("challenger", longest))
    assert release is not None and release.version == "1"
    with pytest.raises(InputError, match="is for all targets"):
        find_holder("qaconv", "challenger", longest)


def test_what_was_forgotten_and_peoples_answers_are_judged(registered: Params) -> None:
    write_adapted(Path(), "station")
    metrics = Path("artifacts/adapted/station/metrics.json")
    values = json.loads(metrics.read_text(encoding="utf-8"))
    answers = {"before": 0.5, "after": 0.4, "low": -0.2, "high": 0.1, "count": 60}
    values.update(answers=answers, reviewed_precision=0.5, after={"source_map": 0.8})
    metrics.write_text(json.dumps(values), encoding="utf-8")
    lock = Path("dvc.lock")
    lock.write_text(yaml.safe_dump({**yaml.safe_load(lock.read_text()), "other": 1}))
    with retraining_run(registered, {}):
        outcome = promote(register_adapted(registered, "station"), registered.gate)
    assert [check.rule for check in outcome.checks if not check.kept] == ["gain", "reviewed matches", "forgetting"]
    assert "F1 of marked matches by 60 answered pairs change by -10.00 points" in outcome.reason
    assert "changes by -10.00 points; a loss of at most 5 is allowed" in outcome.reason
