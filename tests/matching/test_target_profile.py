"""People's answers about drawn pairs correct the probabilities of a fitted profile."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from qaconv.matching.results import Matches
from qaconv.matching.target_profile import correct_by_answers
from qaconv.tlift import TLiftProfile
from qaconv.tlift.calibration import Calibration
from qaconv.tlift.probability import MatchOdds

QUERIES, GALLERY = 30, 60
COUNT = QUERIES + GALLERY
ODDS = MatchOdds(Calibration([-1.0, 1.0], [-1.0, 1.0]), threshold=0.8, sightings=COUNT, span_s=60.0)
FITTED = TLiftProfile("yard", (0, 1), active=True, reason="made up", match_odds=ODDS)
SPLITS = ["query"] * QUERIES + ["gallery"] * GALLERY
SIGHTINGS = pd.DataFrame({"camid": [0] * QUERIES + [1] * GALLERY, "time_s": np.nan, "split": SPLITS})


@pytest.mark.parametrize("offset", [-2.0, 2.0])
def test_answers_that_contradict_the_stated_probabilities_move_them_and_the_threshold(offset: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (QUERIES, GALLERY)).astype(np.float32)
    near = np.zeros((COUNT, GALLERY), dtype=np.int64)
    near_logits = np.zeros((COUNT, GALLERY))
    near[:QUERIES] = np.arange(QUERIES, COUNT)
    near_logits[:QUERIES] = logits
    matches = Matches(logits, logits, logits, near, near_logits, "model", {})
    first = rng.integers(0, QUERIES, 400)
    second = rng.integers(QUERIES, COUNT, 400)
    same = rng.random(400) < expit(logits[first, second - QUERIES] + offset)
    pairs = pd.DataFrame({"first": first, "second": second, "same": same.astype(float), "weight": 1.0})
    corrected = correct_by_answers(FITTED, pairs, SIGHTINGS, matches)
    stated = corrected.probabilities([[0.5]], [0], [np.nan], [1], [np.nan])
    assert stated is not None and logit(stated[0, 0]) == pytest.approx(offset, abs=0.7)
    assert corrected.match_odds is not None
    table = corrected.probabilities(expit(logits), [0] * QUERIES, [np.nan] * QUERIES, [1] * GALLERY, [np.nan] * GALLERY)
    assert table is not None and table[table > corrected.match_odds.threshold].mean() == pytest.approx(0.935, abs=0.01)
