"""People's answers about drawn pairs correct the probabilities of a fitted profile."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from qaconv.matching.results import Matches
from qaconv.matching.target_profile import correct_by_answers
from qaconv.tlift import TLiftProfile
from qaconv.tlift.calibration import Calibration
from qaconv.tlift.odds_map import OddsMap
from qaconv.tlift.probability import GallerySize, MatchOdds

QUERIES, GALLERY = 30, 60
COUNT = QUERIES + GALLERY
ODDS = MatchOdds(Calibration([-1.0, 1.0], [-1.0, 1.0]), threshold=0.8, sightings=COUNT, span_s=60.0)
FITTED = TLiftProfile("yard", (0, 1), active=True, reason="made up", match_odds=ODDS)
SPLITS = ["query"] * QUERIES + ["gallery"] * GALLERY
SIGHTINGS = pd.DataFrame({"camid": [0] * QUERIES + [1] * GALLERY, "time_s": np.nan, "split": SPLITS})


MAPPED = replace(FITTED, match_odds=replace(ODDS, by_identities=OddsMap([-4.0, 4.0], [-5.0, 3.0])))
PLACES = [0] * QUERIES, [np.nan] * QUERIES, [1] * GALLERY, [np.nan] * GALLERY
LOGITS = np.random.default_rng(0).normal(0, 3, (QUERIES, GALLERY)).astype(np.float32)


def answered(offset: float) -> tuple[pd.DataFrame, pd.DataFrame, Matches]:
    """Return answers by which log odds are `offset` above the logits, and what they are about."""
    rng = np.random.default_rng(0)
    near = np.zeros((COUNT, GALLERY), dtype=np.int64)
    near_logits = np.zeros((COUNT, GALLERY))
    near[:QUERIES] = np.arange(QUERIES, COUNT)
    near_logits[:QUERIES] = LOGITS
    matches = Matches(LOGITS, LOGITS, LOGITS, near, near_logits, "model", {})
    first = rng.integers(0, QUERIES, 400)
    second = rng.integers(QUERIES, COUNT, 400)
    same = rng.random(400) < expit(LOGITS[first, second - QUERIES] + offset)
    pairs = pd.DataFrame({"first": first, "second": second, "same": same.astype(float), "weight": 1.0})
    return pairs, SIGHTINGS, matches


def even(profile: TLiftProfile) -> float:
    """Return the stated log odds of a pair with even scores."""
    stated = profile.probabilities([[0.5]], [0], [np.nan], [1], [np.nan])
    assert stated is not None
    return float(logit(stated[0, 0]))


@pytest.mark.parametrize("offset", [-2.0, 2.0])
@pytest.mark.parametrize("profile", [FITTED, MAPPED], ids=["fitted", "mapped"])
def test_answers_that_contradict_the_stated_probabilities_move_them_and_the_threshold(
    profile: TLiftProfile, offset: float
) -> None:
    corrected = correct_by_answers(profile, *answered(offset))
    assert even(corrected) == pytest.approx(offset, abs=0.7)
    assert corrected.match_odds is not None
    table = corrected.probabilities(expit(LOGITS), *PLACES)
    assert table is not None and table[table > corrected.match_odds.threshold].mean() == pytest.approx(0.935, abs=0.01)


def test_answers_that_agree_with_mapped_probabilities_leave_them_as_they_are() -> None:
    assert even(MAPPED) == pytest.approx(-1)
    assert even(correct_by_answers(MAPPED, *answered(-1.0))) == pytest.approx(-1, abs=0.4)


def test_answers_correct_the_odds_that_identities_are_made_of_as_they_do_without_a_map() -> None:
    ends = [0, 0], [np.nan, np.nan]
    odds = [
        correct_by_answers(profile, *answered(-1.0)).pair_log_odds(
            [0.3, 0.8], ends, ([1, 1], ends[1]), GallerySize(COUNT, 0.0)
        )
        for profile in (FITTED, MAPPED)
    ]
    assert odds[0].tolist() == odds[1].tolist()
    assert odds[0].mean() < FITTED.pair_log_odds([0.3, 0.8], ends, ([1, 1], ends[1]), GallerySize(COUNT, 0.0)).mean()
