import threading
from pathlib import Path

import pytest
from mlflow import MlflowClient

from qaconv.config import Params
from qaconv.errors import InputError
from qaconv.registry import Release, find_release, promotion
from qaconv.registry.promotion import promote, rollback
from tests.registry.conftest import BETTER
from tests.tracked_projects import MODELS, pointed_to, retrain

NOTHING = dict.fromkeys(MODELS, "None")


def version(number: int) -> dict[str, str]:
    return dict.fromkeys(MODELS, str(number))


def test_a_better_challenger_replaces_the_champion_which_becomes_previous(params: Params) -> None:
    retrain(params)
    _, outcome = retrain(params, BETTER)
    assert outcome.verdict == "promoted"
    assert outcome.reason.startswith("qaconv version 2 becomes the champion: direct mAP, mean over mall, station")
    assert "changes by +1.00 points" in outcome.reason
    assert pointed_to("champion") == pointed_to("challenger") == version(2)
    assert pointed_to("previous") == version(1)


def test_a_worse_challenger_leaves_the_champion_and_says_why(params: Params) -> None:
    retrain(params)
    worse, outcome = retrain(params, {"station": 0.25, "mall": 0.4})
    assert outcome.verdict == "refused"
    assert "qaconv version 2 is not promoted" in outcome.reason
    assert "changes by -5.00 points" in outcome.reason
    assert pointed_to("champion") == version(1)
    assert pointed_to("challenger") == version(2)
    assert pointed_to("previous") == NOTHING
    tags = MlflowClient().get_model_version("qaconv", worse.version).tags
    assert (tags["gate"], tags["promotion"]) == ("refused", outcome.reason)


def find(number: str) -> Release:
    release = find_release("qaconv", number)
    assert release is not None
    return release


def test_a_version_without_evidence_is_refused(registry: tuple[Path, Params], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promotion, "load_evidence", lambda _: None)
    outcome = promote(find("4"), registry[1].gate)
    assert outcome.verdict == "refused"
    assert "no evidence.json" in outcome.reason
    assert pointed_to("champion") == version(3)


@pytest.mark.parametrize("failing", ["qaconv-matcher", "qaconv"])
def test_a_promotion_that_fails_half_way_leaves_the_old_champion_whole(
    registry: tuple[Path, Params], monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    point = MlflowClient.set_registered_model_alias

    def fail(self: MlflowClient, name: str, alias: str, version: str) -> None:
        if (name, alias, version) == (failing, "champion", "4"):
            raise ConnectionError("the registry is gone")
        point(self, name, alias, version)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", fail)
    with pytest.raises(ConnectionError):
        promote(find("4"), registry[1].gate)
    assert (pointed_to("champion"), pointed_to("previous")) == (version(3), version(2))


def test_the_next_promotion_repairs_what_a_killed_one_left(registry: tuple[Path, Params]) -> None:
    MlflowClient().set_registered_model_alias("qaconv-encoder", "champion", "5")
    assert promote(find("5"), registry[1].gate).verdict == "refused"
    assert pointed_to("champion") == version(3)


def test_rolling_back_goes_one_version_back_each_time_and_keeps_why(registry: tuple[Path, Params]) -> None:
    left, back = rollback("qaconv", "3", "it confuses twins")
    assert (left.version, back.version) == ("3", "2")
    assert (pointed_to("champion"), pointed_to("previous")) == (version(2), version(1))
    assert MlflowClient().get_model_version("qaconv", "3").tags["rolled_back"] == "it confuses twins"
    rollback("qaconv", "2", "this one too")
    assert (pointed_to("champion"), pointed_to("previous")) == (version(1), NOTHING)
    with pytest.raises(InputError, match="qaconv version 1: no earlier champion exists, so there is none to return to"):
        rollback("qaconv", "1", "again")


def test_a_version_that_was_rolled_back_does_not_return_by_itself(registry: tuple[Path, Params]) -> None:
    rollback("qaconv", "3", "it confuses twins")
    outcome = promote(find("3"), registry[1].gate)
    assert (outcome.verdict, outcome.reason) == ("refused", "qaconv version 3 was rolled back: it confuses twins")
    assert pointed_to("champion") == version(2)


def test_a_rollback_without_a_reason_is_refused(registry: tuple[Path, Params]) -> None:
    with pytest.raises(InputError, match="--why must be a sentence"):
        rollback("qaconv", "3", " ")


def test_of_two_promotions_at_once_the_better_wins_and_neither_is_half_done(registry: tuple[Path, Params]) -> None:
    rollback("qaconv", "3", "it confuses twins")
    MlflowClient().delete_model_version_tag("qaconv", "3", "rolled_back")
    threads = [threading.Thread(target=promote, args=(find(number), registry[1].gate)) for number in "34"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pointed_to("champion") == version(4)
    assert pointed_to("previous") in (version(2), version(3))
