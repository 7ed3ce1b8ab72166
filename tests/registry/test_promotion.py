import threading

import pytest
from mlflow import MlflowClient

from qaconv.config import Params
from qaconv.errors import InputError
from qaconv.registry import find_release, promotion
from qaconv.registry.promotion import promote, rollback
from tests.registry.conftest import BETTER
from tests.tracked_projects import MODELS, pointed_to, retrain

NOTHING = dict.fromkeys(MODELS, "None")
BEST = {"station": 0.5, "mall": 0.6}


def version(number: int) -> dict[str, str]:
    return dict.fromkeys(MODELS, str(number))


def test_a_better_challenger_replaces_the_champion_which_becomes_previous(registered: Params) -> None:
    _, outcome = retrain(registered, BETTER)
    assert outcome.verdict == "promoted"
    assert outcome.reason.startswith("qaconv version 2 becomes the champion: direct mAP, mean over mall, station")
    assert "changes by +1.00 points" in outcome.reason
    assert pointed_to("champion") == pointed_to("challenger") == version(2)
    assert pointed_to("previous") == version(1)


def test_a_worse_challenger_leaves_the_champion_and_says_why(registered: Params) -> None:
    worse, outcome = retrain(registered, {"station": 0.25, "mall": 0.4})
    assert outcome.verdict == "refused"
    assert "qaconv version 2 is not promoted" in outcome.reason
    assert "changes by -5.00 points" in outcome.reason
    assert pointed_to("champion") == version(1)
    assert pointed_to("challenger") == version(2)
    assert pointed_to("previous") == NOTHING
    tags = MlflowClient().get_model_version("qaconv", worse.version).tags
    assert (tags["gate"], tags["promotion"]) == ("refused", outcome.reason)


def test_a_version_without_evidence_is_refused(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promotion, "load_evidence", lambda _: None)
    _, outcome = retrain(params)
    assert outcome.verdict == "refused"
    assert "no evidence.json" in outcome.reason
    assert pointed_to("champion") == NOTHING


@pytest.mark.parametrize("failing", ["qaconv-matcher", "qaconv"])
def test_a_promotion_that_fails_half_way_leaves_the_old_champion_whole(
    params: Params, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    point = MlflowClient.set_registered_model_alias
    refused = "1"

    def fail(self: MlflowClient, name: str, alias: str, version: str) -> None:
        if (name, alias, version) == (failing, "champion", refused):
            raise ConnectionError("the registry is gone")
        point(self, name, alias, version)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", fail)
    with pytest.raises(ConnectionError):
        retrain(params)
    assert pointed_to("champion") == dict.fromkeys(MODELS, "None")
    refused = "2"
    retrain(params)
    with pytest.raises(ConnectionError):
        retrain(params, {"station": 0.5, "mall": 0.5})
    assert pointed_to("champion") == dict.fromkeys(MODELS, "1")


def test_the_next_promotion_repairs_what_a_killed_one_left(registered: Params) -> None:
    retrain(registered, {"station": 0.25, "mall": 0.4})
    MlflowClient().set_registered_model_alias("qaconv-encoder", "champion", "2")
    retrain(registered)
    assert pointed_to("champion") == dict.fromkeys(MODELS, "1")


def test_rolling_back_goes_one_version_back_each_time_and_keeps_why(promoted: Params) -> None:
    retrain(promoted, BEST)
    assert (pointed_to("champion"), pointed_to("previous")) == (version(3), version(2))
    left, back = rollback("qaconv", "3", "it confuses twins")
    assert (left.version, back.version) == ("3", "2")
    assert (pointed_to("champion"), pointed_to("previous")) == (version(2), version(1))
    assert MlflowClient().get_model_version("qaconv", "3").tags["rolled_back"] == "it confuses twins"
    rollback("qaconv", "2", "this one too")
    assert (pointed_to("champion"), pointed_to("previous")) == (version(1), NOTHING)
    with pytest.raises(InputError, match="qaconv version 1: no earlier champion exists, so there is none to return to"):
        rollback("qaconv", "1", "again")


def test_a_version_that_was_rolled_back_does_not_return_by_itself(promoted: Params) -> None:
    rollback("qaconv", "2", "it confuses twins")
    _, outcome = retrain(promoted)
    assert (outcome.verdict, outcome.reason) == ("refused", "qaconv version 2 was rolled back: it confuses twins")
    assert pointed_to("champion") == version(1)


def test_a_rollback_without_a_reason_is_refused(params: Params) -> None:
    with pytest.raises(InputError, match="--why must be a sentence"):
        rollback("qaconv", "1", " ")


def test_of_two_promotions_at_once_the_better_wins_and_neither_is_half_done(registered: Params) -> None:
    strict = registered.gate.model_copy(update={"min_gain": 100.0})
    lenient = registered.model_copy(update={"gate": strict})
    retrain(lenient, BETTER)
    retrain(lenient, BEST)
    releases = [release for number in "23" if (release := find_release("qaconv", number))]
    threads = [threading.Thread(target=promote, args=(release, registered.gate)) for release in releases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pointed_to("champion") == version(3)
    assert pointed_to("previous") in (version(1), version(2))
