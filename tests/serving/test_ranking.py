"""What a search says: scores, order, probabilities and which sightings match."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qaconv.runtime.contract import Decision, LogitThreshold, Probability, Score
from qaconv.runtime.model import ServedModel
from qaconv.serving.gallery import Filter
from qaconv.serving.messages import Query
from qaconv.serving.service import Service
from qaconv.serving.stored_maps import quantise_maps
from qaconv.tlift.calibration import Calibration
from qaconv.tlift.probability import MatchOdds
from tests.small_service import ANY, SETTINGS, crop, enrol, small_model, small_service, switch_version


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return small_service(tmp_path)


def with_match_odds(model: ServedModel) -> ServedModel:
    """Give the profile of mall odds of a match."""
    odds = MatchOdds(Calibration([-5.0, 5.0], [-9.0, 3.0]), 0.7, sightings=4, span_s=50.0)
    model.profiles["mall"] = replace(model.profiles["mall"], match_odds=odds)
    return model


def test_scores_are_the_matchers_on_the_encoders_maps(service: Service) -> None:
    ids = enrol(service, 3)
    model = service.active.model
    maps = np.concatenate([service._encoder.encode(model, [crop(number)], [0]) for number in range(3)])
    codes = quantise_maps(maps)
    expected = model.matcher.table(model.matcher.prepare(codes.take(slice(0, 1))), codes)[0]
    (matches,) = service.search("mall", [Query([crop(0)])], ANY, 3).results
    assert {match.id: match.score for match in matches} == dict(zip(ids, expected.tolist(), strict=True))
    assert [match.score for match in matches] == sorted((match.score for match in matches), reverse=True)


def test_without_a_threshold_the_strictest_of_the_model_decides(tmp_path: Path) -> None:
    other = small_service(tmp_path / "other")
    enrol(other, 6)
    logits = sorted(match.score for match in other.search("mall", [Query([crop(0)])], ANY, 6).results[0])
    service = small_service(tmp_path)
    enrol(service, 6)
    rows = [
        LogitThreshold(false_match_rate=rate, threshold=logits[rank], true_match_rate=0.5)
        for rate, rank in ((0.01, 1), (0.001, 4))
    ]
    score = Score(better="higher", probability=Probability(scale=1e-6, offset=0), decision=Decision(thresholds=rows))
    model = service.active.model
    model.contract = model.contract.model_copy(update={"score": score})
    answer = service.search("mall", [Query([crop(0)])], ANY, 6)
    assert answer.threshold == pytest.approx(1 / (1 + np.exp(-1e-6 * logits[4])))
    assert [match.match for match in answer.results[0]] == [True] + [False] * 5
    assert [match.match for match in service.search("mall", [Query([crop(0)])], ANY, 6, 0.0).results[0]] == [True] * 6


def test_probabilities_are_the_target_s_by_default_and_at_even_odds_where_the_search_asks_for_it(
    service: Service,
) -> None:
    enrol(service, 6)
    source = service.search("mall", [Query([crop(0)])], ANY, 6)
    model = with_match_odds(service.active.model)
    target, even = (service.search("mall", [Query([crop(0)])], ANY, 6, even_odds=even) for even in (False, True))
    assert (target.probability_from, target.threshold) == ("target", 0.7)
    assert even == source and (even.probability_from, even.threshold) == ("source", model.threshold)
    assert all(match.match == (match.probability > 0.7) for match in target.results[0])
    for stated, before in zip(target.results[0], source.results[0], strict=True):
        assert (stated.id, stated.score) == (before.id, before.score) and stated.probability < before.probability


def test_more_sightings_of_others_lower_the_probability(service: Service) -> None:
    enrol(service, 6)
    with_match_odds(service.active.model)
    (first,) = service.search("mall", [Query([crop(0)])], ANY, 6).results
    enrol(service, 20, first=100)
    (later,) = service.search("mall", [Query([crop(0)])], ANY, 26).results
    then = {match.id: match.probability for match in first}
    assert all(match.probability < then[match.id] for match in later if match.id in then)


def test_a_stored_sighting_finds_others_and_not_itself(service: Service) -> None:
    ids = enrol(service, 4)
    (matches,) = service.search("mall", [Query(sighting=ids[0])], ANY, 5).results
    assert sorted(match.id for match in matches) == ids[1:]
    assert all(match.lifted is not None for match in matches)  # its own camera and time are known


def test_matches_are_ranked_by_the_lifted_score_where_the_query_has_a_camera_and_a_time(service: Service) -> None:
    ids = enrol(service, 40)
    (matches,) = service.search("mall", [Query(sighting=ids[20])], ANY, 39).results
    lifted = [match.lifted for match in matches if match.lifted is not None]
    scores = [match.score for match in matches]
    assert len(lifted) == 39 and lifted == sorted(lifted, reverse=True)
    assert scores != sorted(scores, reverse=True)
    (first,) = service.search("mall", [Query(sighting=ids[20])], ANY, 5).results
    assert [match.id for match in first] == [match.id for match in matches[:5]]


@pytest.mark.parametrize(("camid", "time_s"), [(None, None), (1, None), (None, 70.0)])
def test_matches_are_ranked_by_the_logit_where_the_query_has_no_camera_or_no_time(
    service: Service, camid: int | None, time_s: float | None
) -> None:
    enrol(service, 40)
    (matches,) = service.search("mall", [Query([crop(7)], None, camid, time_s)], ANY, 40).results
    scores = [match.score for match in matches]
    assert scores == sorted(scores, reverse=True) and {match.lifted for match in matches} == {None}


def test_a_shortlist_has_fewer_sightings_with_the_scores_of_full_matching(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qaconv.serving.indexing.FEWEST", 60)
    monkeypatch.setattr("qaconv.serving.indexing.LANDMARKS", 10)
    short = small_service(tmp_path, SETTINGS.model_copy(update={"shortlist": 5}))
    enrol(short, 60)
    short.update_index()
    everything = Service(short.records, SETTINGS, "1", short.active.model)

    def scores(service: Service) -> dict[int, float]:
        candidates = service.active.galleries["mall"].search(
            service.active.model, np.ones((1, 3, 2, 1), np.float32), Filter(), service.settings.shortlist
        )
        return dict(zip(candidates.ids.tolist(), candidates.logits[0].tolist(), strict=True))

    assert len(scores(short)) == 5 and len(scores(everything)) == 60
    assert scores(short).items() <= scores(everything).items()


def test_a_camera_that_the_new_versions_profile_lacks_is_matched_without_time_and_that_is_logged(
    service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ids = enrol(service, 30)
    model = small_model(tmp_path / "new")
    model.profiles["mall"] = replace(model.profiles["mall"], camids=(0, 1))
    switch_version(service, "2", model)
    assert "mall: the profile of version 2 lacks the cameras [2]" in caplog.text
    lost, kept = ids[2], ids[1]  # at cameras 2 and 1
    (timed,) = service.search("mall", [Query([crop(100)], camid=0, time_s=200.0)], ANY, 30).results
    assert {match.id for match in timed} == set(ids)
    assert all(match.lifted is not None for match in timed)
    (later,) = service.search("mall", [Query([crop(100)], camid=0, time_s=9000.0)], ANY, 30).results
    order = [[match.id for match in matches if match.camid == 2] for matches in (timed, later)]
    assert order[0] == order[1]
    (by_lost,) = service.search("mall", [Query(sighting=lost)], ANY, 30).results
    assert len(by_lost) == 29 and by_lost[0].lifted is None
    (by_kept,) = service.search("mall", [Query(sighting=kept)], ANY, 30).results
    assert len(by_kept) == 29 and by_kept[0].lifted is not None
