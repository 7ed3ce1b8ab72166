"""Fit profiles of simulated walks; the truth is only used to measure."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit

from qaconv.metrics import evaluate_ranking
from qaconv.tlift import TLiftProfile, fit_profile
from qaconv.tlift.findings import Finding
from tests.tlift.simulated import Sightings, simulated


@pytest.fixture(scope="module")
def walks() -> Sightings:
    return simulated()


@pytest.fixture(scope="module")
def profile(walks: Sightings) -> TLiftProfile:
    return fitted(walks)


def fitted(walks: Sightings) -> TLiftProfile:
    return fit_profile(*walks.neighbours(), walks.camids, walks.times)


def halves(walks: Sightings) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    query = np.arange(len(walks.pids)) % 4 == 0
    return query, ~query


def lifted(walks: Sightings, profile: TLiftProfile) -> NDArray[np.float64]:
    query, gallery = halves(walks)
    table = walks.table[np.ix_(query, gallery)]
    return profile.lift(table, walks.camids[query], walks.times[query], walks.camids[gallery], walks.times[gallery])


def mean_ap(walks: Sightings, scores: NDArray[np.float64]) -> float:
    query, gallery = halves(walks)
    return evaluate_ranking(
        scores, walks.pids[query], walks.pids[gallery], walks.camids[query], walks.camids[gallery]
    ).mean_average_precision


def test_fitted_times_lift_far_above_appearance_alone(walks: Sightings, profile: TLiftProfile) -> None:
    query, gallery = halves(walks)
    assert profile.active
    assert mean_ap(walks, lifted(walks, profile)) > mean_ap(walks, walks.table[np.ix_(query, gallery)]) + 0.1


def test_stated_probabilities_are_within_8_points_of_the_truth_and_most_marked_pairs_are_right(
    walks: Sightings, profile: TLiftProfile
) -> None:
    query, gallery = halves(walks)
    where = walks.camids[query], walks.times[query], walks.camids[gallery], walks.times[gallery]
    stated = profile.probabilities(walks.table[np.ix_(query, gallery)], *where)
    assert stated is not None and profile.match_odds is not None
    apart = where[0][:, None] != where[2]
    right = walks.pids[query][:, None] == walks.pids[gallery]
    marked = apart & (stated > profile.match_odds.threshold)
    assert right[marked].mean() > 0.88
    assert (right & marked).sum() > 0.35 * (right & apart).sum()
    for low in np.arange(0, 1, 0.2):
        inside = apart & (stated >= low) & (stated < low + 0.2)
        assert abs(stated[inside].mean() - right[inside].mean()) < 0.08


def test_drawn_pairs_correct_the_odds_where_some_people_look_alike(walks: Sightings) -> None:
    looks_plain = np.random.default_rng(0).random(walks.pids.max() + 1) < 0.3
    plain = looks_plain[walks.pids]
    alike = replace(walks, table=expit(logit(walks.table) + 3 * (plain[:, None] & plain)))
    count = len(walks.pids)
    one, other = np.divmod(np.random.default_rng(3).permutation(count * count)[:100_000], count)
    apart = walks.camids[:, None] != walks.camids
    right = ((walks.pids[:, None] == walks.pids) & apart).sum()
    where = walks.camids, walks.times, walks.camids, walks.times
    expected = []
    for drawn in (None, (one, other, alike.table[one, other])):
        stated = fit_profile(*alike.neighbours(), walks.camids, walks.times, drawn=drawn).probabilities(
            alike.table, *where
        )
        assert stated is not None
        expected.append(stated[apart].sum())
    assert expected[0] > 1.2 * right
    assert abs(expected[1] - right) < 0.1 * right


def test_permuted_times_make_the_profile_inactive_and_leave_the_scores(walks: Sightings) -> None:
    permuted = walks.permuted()
    found = fitted(permuted)
    query, gallery = halves(walks)
    assert not found.active and "cannot" not in found.reason and "no signal" in found.reason
    assert found.match_odds is None
    np.testing.assert_array_equal(lifted(permuted, found), walks.table[np.ix_(query, gallery)])


def test_a_track_counts_once_with_any_number_of_crops() -> None:
    walks = simulated(people=40)
    crops = [(0, -0.4), (1, 0.0), (2, 0.4)]  # the middle one is the sighting itself
    count = len(walks.pids)
    three = Sightings(
        np.repeat(walks.pids, 3),
        np.repeat(walks.camids, 3),
        (walks.times[:, None] + [seconds for _, seconds in crops]).ravel(),
        walks.table.repeat(3, axis=0).repeat(3, axis=1),
    )
    tracks = np.repeat([f"track {number}" for number in range(count)], 3)
    alone = fit_profile(*walks.neighbours(count - 1), walks.camids, walks.times)
    tracked = fit_profile(*three.neighbours(3 * count - 1), three.camids, three.times, tracks=tracks)
    assert alone.active
    assert (tracked.transit, tracked.calibrations) == (alone.transit, alone.calibrations)
    assert tracked.match_odds is not None and alone.match_odds is not None
    assert tracked.match_odds.sightings == 3 * alone.match_odds.sightings
    with pytest.raises(ValueError, match=f"tracks must have an entry for each of {count} sightings"):
        fit_profile(*walks.neighbours(), walks.camids, walks.times, tracks=tracks)


def test_constant_clock_offset_per_camera_leaves_the_ranking(walks: Sightings) -> None:
    exact = walks.at(np.round(64 * walks.times) / 64)  # adding an offset rounds nothing, which could settle a near tie
    shifted = exact.at(exact.times + np.array([0.0, 1024.0, -512.0, 4096.0])[exact.camids])
    expected, found = lifted(exact, fitted(exact)), lifted(shifted, fitted(shifted))
    assert mean_ap(walks, found) == pytest.approx(mean_ap(walks, expected), abs=1e-3)
    np.testing.assert_allclose(np.log(found), np.log(expected), atol=0.05)


def test_order_of_sightings_changes_no_byte(walks: Sightings, profile: TLiftProfile, tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(len(walks.pids))
    place = np.argsort(order)
    indices, scores = walks.neighbours()
    again = fit_profile(place[indices[order]], scores[order], walks.camids[order], walks.times[order])
    for name, each in (("a", profile), ("b", again)):
        each.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_ten_minute_jump_is_found_within_its_hour_and_corrected(walks: Sightings, profile: TLiftProfile) -> None:
    at = 4 * 3600.0
    jumped = walks.at(walks.times + 600 * ((walks.camids == 2) & (walks.times > at)))
    found = fitted(jumped)
    (jump,) = [finding for finding in found.findings if finding.kind == "jump"]
    assert jump.camid == 2 and jump.time_s is not None and abs(jump.time_s - at) <= 3600
    assert found.clocks[2].jumps[0][1] == pytest.approx(600, abs=30)
    assert mean_ap(walks, lifted(jumped, found)) > mean_ap(walks, lifted(walks, profile)) - 0.03


def test_drift_of_a_fifth_of_a_per_cent_costs_next_to_nothing(walks: Sightings, profile: TLiftProfile) -> None:
    drifted = walks.at(walks.times * (1 + 0.002 * (walks.camids == 1)))
    assert mean_ap(walks, lifted(drifted, fitted(drifted))) > mean_ap(walks, lifted(walks, profile)) - 0.03


def test_drift_of_half_a_per_cent_is_found_and_corrected() -> None:
    walks = simulated(seed=12)
    found = fitted(walks.at(walks.times * (1 + 0.005 * (walks.camids == 1))))
    assert {(finding.camid, finding.kind) for finding in found.findings} == {(1, "drift")}
    assert found.clocks[1].drift == pytest.approx(0.005, rel=0.3)


def test_companions_stay_together_more_often_than_permuted_walks(profile: TLiftProfile) -> None:
    curve = profile.evidence["comovement"]
    assert curve["pairs"][0] > 10
    assert curve["together"][0] > curve["control"][0] + 0.3
    assert curve["together"][-1] < 0.2


def test_the_evidence_has_each_camera_s_share_of_sightings_with_a_companion(
    walks: Sightings, profile: TLiftProfile
) -> None:
    tau, shares = profile.parameters.tau_s, profile.evidence["share_with_a_neighbour_within_tau"]
    for camid in range(4):
        times = walks.times[walks.camids == camid]
        near = (np.abs(times[:, None] - times) < tau).sum(axis=1) > 1
        assert shares[str(camid)] == pytest.approx(near.mean(), abs=1e-3)


def test_estimated_purity_is_near_the_truth_or_below(walks: Sightings, profile: TLiftProfile) -> None:
    indices, scores = walks.neighbours()
    across = walks.camids[indices] != walks.camids[:, None]
    above = across & (scores >= profile.evidence["score_cut"])
    best = np.argmax(np.where(across, scores, -1), axis=1)
    chosen = above[np.arange(len(best)), best]
    right = walks.pids[indices[np.arange(len(best)), best]] == walks.pids
    assert right[chosen].mean() > profile.evidence["purity_above_cut"] - 0.15


def test_sightings_without_times_give_an_inactive_profile(walks: Sightings) -> None:
    found = fit_profile(*walks.neighbours(), walks.camids, np.full(len(walks.pids), np.nan))
    assert not found.active and found.span_s is None
    assert found.reason == "no times: time is not used"
    assert found.findings == ()


def test_findings_of_the_reader_come_first(walks: Sightings) -> None:
    reset = Finding(1, "reset", 20.0, "begins anew", "mended")
    found = fit_profile(
        *walks.neighbours(), walks.camids, np.where(walks.camids == 2, np.nan, walks.times), known=[reset]
    )
    assert found.findings[0] == reset and len(found.findings) > 1


def test_profile_holds_no_nan(profile: TLiftProfile, tmp_path: Path) -> None:
    profile.save(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["version"] == 2


def test_score_outside_zero_and_one_is_refused(walks: Sightings) -> None:
    indices, scores = walks.neighbours()
    with pytest.raises(ValueError, match=r"neighbour_scores must be in \[0, 1\], got \d+"):
        fit_profile(indices, scores + 1, walks.camids, walks.times)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"neighbour_indices": [[1.5], [0]]}, "neighbour_indices must be whole numbers, got 1.5"),
        ({"neighbour_indices": [[np.nan], [0]]}, "neighbour_indices must be whole numbers, got nan"),
        ({"neighbour_indices": [[2], [0]]}, r"neighbour_indices must be in 0\.\.1, got 2"),
        ({"neighbour_indices": [[-1], [0]]}, r"neighbour_indices must be in 0\.\.1, got -1"),
        ({"neighbour_indices": [1, 0]}, r"same shape \[2, k\], as there are 2 camids, got \(2,\) and \(2, 1\)"),
        ({"camids": [0, 1.5]}, "camids must be whole numbers, got 1.5"),
        ({"times": [10.0]}, r"camids and times must have shape \[N\], got \(2,\) and \(1,\)"),
        ({"reranked": ([0], [0.5], [0.9])}, "reranked must be whole numbers, got 0.5"),
        ({"reranked": ([0], [1], [1.9])}, r"reranked must be in \[0, 1\], got 1 "),
        ({"reranked": ([0], [2], [0.9])}, r"reranked must be in 0\.\.1, got 2"),
        ({"drawn": ([0], [0.5], [0.9])}, "drawn must be whole numbers, got 0.5"),
        ({"drawn": ([0], [-1], [0.9])}, r"drawn must be in 0\.\.1, got -1"),
        ({"drawn": ([0], [1], [1.9])}, r"drawn must be in \[0, 1\], got 1 "),
        ({"drawn": ([0, 1], [1], [0.9])}, r"drawn must be three arrays of shape \[S\], got \(2,\), \(1,\), \(1,\)"),
        ({"neighbour_indices": [[-1], [0]], "tracks": ["a", "a"]}, r"neighbour_indices must be in 0\.\.1, got -1"),
    ],
)
def test_neighbours_and_pairs_of_another_kind_are_refused_by_name(changed: dict[str, Any], message: str) -> None:
    sound: dict[str, Any] = {
        "neighbour_indices": [[1], [0]],
        "neighbour_scores": [[0.9], [0.9]],
        "camids": [0, 1],
        "times": [10.0, 25.0],
    }
    assert not fit_profile(**sound, reranked=([0], [1], [0.9]), drawn=([0], [1], [0.9])).active
    with pytest.raises(ValueError, match=message):
        fit_profile(**{**sound, **changed})
