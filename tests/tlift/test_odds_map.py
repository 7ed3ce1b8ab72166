import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from qaconv.tlift import TLiftProfile
from qaconv.tlift.calibration import Calibration
from qaconv.tlift.odds_map import LEAST_PAIRS, OddsMap, fit_odds_map
from qaconv.tlift.probability import GallerySize, MatchOdds
from tests.tlift.test_profile import with_transit

LOWER = OddsMap([-4.0, 0.0, 4.0], [-6.0, -2.0, 3.0])
ODDS = MatchOdds(Calibration([-4.0, 4.0], [-8.0, 4.0]), 0.75, sightings=100, span_s=600.0)
FITTED, MAPPED = (with_transit(match_odds=replace(ODDS, by_identities=by)) for by in (None, LOWER))
PLACES = [0], [0.0], [1, 1], [60.0, np.nan]
LINES = st.tuples(st.floats(0.1, 3), st.floats(-3, 3))


def fitted_to(shift: float, count: int = 20_000) -> OddsMap:
    """Fit a map to pairs whose true log odds are `shift` above those of the fit."""
    rng = np.random.default_rng(0)
    log_odds = rng.normal(0, 4, count)
    blocks = np.array_split(log_odds, 3), np.array_split(rng.random(count) < expit(log_odds + shift), 3)
    fitted = fit_odds_map(zip(*blocks, strict=True))
    assert fitted is not None
    return fitted


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(-30, 30), st.booleans()), min_size=2 * LEAST_PAIRS, max_size=200))
def test_a_fitted_map_rises_everywhere_and_leaves_probabilities_in_0_to_1(pairs: list[tuple[float, bool]]) -> None:
    log_odds, same = (np.array(column) for column in zip(*pairs, strict=True))
    fitted = fit_odds_map([(log_odds, same)])
    if fitted is None:
        assert same.sum() < LEAST_PAIRS or np.ptp(log_odds) < 1
        return
    stated = fitted(np.linspace(-35, 35, 1001))
    assert (np.diff(stated) > 0).all()
    assert expit(stated[0]) > 0 and np.isfinite(stated).all()


@pytest.mark.parametrize("shift", [-2.0, 0.0, 1.0])
def test_odds_that_are_off_are_mapped_to_the_share_of_pairs_of_one_identity(shift: float) -> None:
    inside = np.linspace(-4, 4, 50)
    assert np.abs(expit(fitted_to(shift)(inside)) - expit(inside + shift)).max() < 0.06


def test_with_few_pairs_of_one_identity_there_is_no_map() -> None:
    log_odds = np.linspace(-8, 8, 1000)
    same = np.arange(1000) >= 1000 - LEAST_PAIRS
    assert fit_odds_map([(log_odds, same)]) is not None
    same[-1] = False
    assert fit_odds_map([(log_odds, same)]) is None
    assert fit_odds_map([]) is None


@settings(max_examples=30)
@given(LINES, LINES, st.floats(-12, 12))
def test_a_moved_map_is_the_map_between_two_lines(
    before: tuple[float, float], after: tuple[float, float], log_odds: float
) -> None:
    moved = LOWER.moved(before, after)(np.array(before[0] * log_odds + before[1]))
    assert moved == pytest.approx(after[0] * LOWER(np.array(log_odds)) + after[1], abs=1e-6)


def test_the_map_changes_what_is_stated_and_not_the_odds_that_identities_are_made_of() -> None:
    plain, mapped = (profile.probabilities([[0.6, 0.7]], *PLACES) for profile in (FITTED, MAPPED))
    assert plain is not None and mapped is not None
    assert (mapped < plain).all()
    assert mapped == pytest.approx(expit(LOWER(np.log(plain / (1 - plain)))))
    ends = ([0], [0.0]), ([1], [60.0])
    odds = [profile.pair_log_odds([0.6], *ends, GallerySize(100, 600.0)) for profile in (FITTED, MAPPED)]
    assert odds[0] == odds[1]


def test_a_map_is_read_as_it_was_written_and_a_file_from_before_has_none(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    MAPPED.save(path)
    assert TLiftProfile.load(path) == MAPPED
    content = json.loads(path.read_text())
    del content["match_odds"]["by_identities"]
    path.write_text(json.dumps(content))
    assert TLiftProfile.load(path) == FITTED
