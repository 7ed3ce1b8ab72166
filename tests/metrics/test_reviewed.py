import numpy as np
import pandas as pd
import pytest

from qaconv.metrics.reviewed import estimate_reviewed
from qaconv.tlift import TLiftProfile
from qaconv.tlift.calibration import Calibration
from qaconv.tlift.probability import MatchOdds

COUNT = 8
ODDS = MatchOdds(Calibration([-1.0, 1.0], [-1.0, 1.0]), threshold=0.6, sightings=COUNT, span_s=60.0)
FITTED = TLiftProfile("yard", (0, 1), active=True, reason="made up", match_odds=ODDS)
SIGHTINGS = pd.DataFrame({"camid": [0, 1] * (COUNT // 2), "time_s": np.nan})


def test_the_present_network_marks_the_pairs_and_the_answers_judge_them() -> None:
    pairs = pd.DataFrame({"first": [0, 2, 4, 6], "second": [1, 3, 5, 7], "same": [1.0, 0.0, 1.0, 1.0]})
    pairs = pairs.assign(stated=0.7, marked=True, stratum="0.5 to 0.9", stratum_pairs=30)
    neighbours = np.array([[1], [4], [3], [0], [0], [4], [0], [0]])
    logits = np.array([[2.0], [9.0], [2.0], [9.0], [9.0], [-2.0], [9.0], [9.0]])  # of 5 with 4: not marked
    made = estimate_reviewed(pairs, SIGHTINGS, neighbours, logits, FITTED)
    assert made is not None and made.answered_pairs == 4
    assert made.precision == 0.5  # of pairs 0 1 and 2 3; 6 7 are no neighbours
    assert made.recall == pytest.approx(1 / 3)
    assert made.precision_low is not None and made.precision_low < 0.5


def test_a_profile_without_probabilities_has_no_figures() -> None:
    pairs = pd.DataFrame({"first": [0], "second": [1]})
    without = TLiftProfile("yard", (0, 1), active=False, reason="no times")
    assert estimate_reviewed(pairs, SIGHTINGS, np.array([[1]]), np.array([[0.0]]), without) is None
