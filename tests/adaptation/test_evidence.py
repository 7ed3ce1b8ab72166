from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from qaconv.adaptation.evidence import HeldOutMatches, judge_by_times, share_difference
from qaconv.adaptation.view import View
from qaconv.matching.results import Matches
from qaconv.tlift import fit_profile

PEOPLE, CAMERAS = 90, 3
PERSON, CAMID = np.indices((PEOPLE, CAMERAS)).reshape(2, -1)
HELD_OUT = np.where(PERSON < 60, PERSON, -1)


def view(share_right: float) -> View:
    """Return a view of people who walk past three cameras; a share of their best matches is right, others any."""
    rng = np.random.default_rng(3)
    times = 200.0 * PERSON + 60.0 * CAMID + rng.uniform(0, 5, len(PERSON))
    partner = np.where(rng.random(PEOPLE) < share_right, np.arange(PEOPLE), 0)
    wrong = np.flatnonzero(partner != np.arange(PEOPLE))
    partner[wrong] = rng.permutation(wrong)
    alike = np.select(
        [CAMID == 0, CAMID == 1], [partner[PERSON], PERSON], -1
    )  # of cameras 0 and 1, whom one looks like
    logits = np.where((alike[:, None] == alike) & (alike >= 0), 3.0, -3.0) + rng.normal(0, 0.1, (len(PERSON),) * 2)
    same = (PERSON[:, None] == PERSON) & (CAMID[:, None] != 0) & (CAMID != 0)
    logits = np.where(same, 3.5, logits)
    np.fill_diagonal(logits, -np.inf)
    nearest = np.argsort(-logits, axis=1)[:, :20]
    near = np.take_along_axis(logits, nearest, axis=1)
    sightings = pd.DataFrame({"camid": CAMID, "time_s": times, "track": ""})
    empty = np.zeros((0, 0), dtype=np.float32)
    return View(
        sightings, Matches(empty, empty, empty, nearest, near, "", {}), fit_profile(nearest, expit(near), CAMID, times)
    )


@pytest.fixture(scope="module")
def ruler() -> View:
    return view(0.9)


def true_share(judged: View) -> float:
    """Return the share of right ones among the best matches on each other camera of people held out."""
    right = []
    for row in np.flatnonzero(HELD_OUT >= 0):
        for camera in {0, 1, 2} - {CAMID[row]}:
            near = [other for other in judged.matches.neighbours[row] if CAMID[other] == camera]  # best first
            right += [PERSON[near[0]] == PERSON[row]] if near else []
    return float(np.mean(right))


@pytest.mark.parametrize("share_right", [0.9, 0.6, 0.3])
def test_times_say_which_share_of_the_matches_is_right(ruler: View, share_right: float) -> None:
    judged = view(share_right)
    assert judge_by_times(judged, ruler, HELD_OUT).share == pytest.approx(true_share(judged), abs=0.06)


def test_times_that_mean_nothing_make_few_matches_right(ruler: View) -> None:
    permuted = ruler.sightings.copy()
    for camid in range(CAMERAS):
        rows = np.flatnonzero(camid == CAMID)
        permuted.loc[rows, "time_s"] = permuted["time_s"].to_numpy()[np.random.default_rng(camid).permutation(rows)]
    assert judge_by_times(replace(ruler, sightings=permuted), ruler, HELD_OUT).share < 0.15


def test_matches_of_people_who_are_not_held_out_count_for_nothing(ruler: View) -> None:
    matches = judge_by_times(ruler, ruler, np.where(PERSON == 5, 0, -1))
    assert matches.all.shape == (1,)
    assert matches.all[0] == CAMERAS * (CAMERAS - 1)
    assert judge_by_times(ruler, ruler, np.full(len(PERSON), -1)).share == 0


def test_the_interval_of_a_difference_is_that_of_the_people_drawn() -> None:
    before = HeldOutMatches(np.array([1.0, 2.0, 0.0, 3.0]), np.full(4, 4.0))
    same = share_difference(before, before, seed=0)
    assert (same.value, same.low, same.high, same.queries) == (0, 0, 0, 4)
    better = share_difference(before._replace(right=before.right + 1), before, seed=0)
    assert (better.value, better.low, better.high) == pytest.approx((0.25, 0.25, 0.25))
