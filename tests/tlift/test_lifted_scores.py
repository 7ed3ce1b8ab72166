"""A lift in blocks of rows gives the bits of a lift of the whole table."""

import numpy as np
import pytest

from qaconv import tables
from qaconv.tlift import lift
from qaconv.tlift.calibration import Calibration
from qaconv.tlift.probability import MatchOdds
from tests.tlift.test_profile import with_transit

QUERIES, GALLERY = 120, 300
RNG = np.random.default_rng(8)
SCORES = RNG.random((QUERIES, GALLERY))
TIMES = RNG.random(QUERIES + GALLERY) * 2000
TIMES[::17] = np.nan
CAMIDS = RNG.integers(0, 3, QUERIES + GALLERY)
PLACES = CAMIDS[:QUERIES], TIMES[:QUERIES], CAMIDS[QUERIES:], TIMES[QUERIES:]
ODDS = MatchOdds(Calibration([-4.0, 0.0, 4.0], [-8.0, -3.0, 4.0]), 0.75, sightings=100, span_s=600.0)
PROFILE = with_transit(match_odds=ODDS)


@pytest.mark.parametrize("rows_in_block", [1, 7, 50])
def test_rows_are_lifted_to_the_bit_as_in_the_whole_table(rows_in_block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BLOCK_SCORES", rows_in_block * GALLERY)
    monkeypatch.setattr(lift, "ENTRIES", 1 << 12)  # so that a camera's images are several blocks
    whole = PROFILE.lift(SCORES, *PLACES)
    lifted = PROFILE.lifted(SCORES, *PLACES)
    for rows in tables.row_blocks(lifted.shape):
        np.testing.assert_array_equal(lifted[rows], whole[rows])
    some = np.array([90, 3, 41])
    np.testing.assert_array_equal(lifted[some], whole[some])


def test_rows_without_times_stay_where_times_are_not_used() -> None:
    still = with_transit(active=False).lifted(SCORES, *PLACES)
    np.testing.assert_array_equal(still[3:5], SCORES[3:5])


def test_stated_rows_are_those_of_all_probabilities() -> None:
    whole = PROFILE.probabilities(SCORES, *PLACES)
    assert whole is not None
    np.testing.assert_array_equal(PROFILE.stated(SCORES, *PLACES)[10:13], whole[10:13])
