import numpy as np

from qaconv.tlift.calibration import calibrate


def test_scores_without_matches_do_not_get_odds_of_nearly_0() -> None:
    scores = np.linspace(0.05, 0.95, 4000)
    curve = calibrate(scores, np.where(scores > 0.5, 0.5, 0.0))
    assert curve.log_odds[0] > np.log(5 / 4000) - 0.1
    assert curve(np.array([0.9]))[0] > curve(np.array([0.1]))[0] + 3
