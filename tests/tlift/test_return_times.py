import numpy as np

from qaconv.tlift.calibration import Calibration
from qaconv.tlift.return_times import fit_return_times

CALIBRATION = Calibration([-3.0, 3.0], [-4.0, 4.0])


def test_return_times_favour_the_gaps_of_one_visit_and_nothing_else() -> None:
    rng = np.random.default_rng(2)
    times = np.sort(rng.uniform(0, 20_000, 400))
    visits = np.concatenate([times, times + rng.uniform(1, 5, 400)])
    gaps = np.concatenate([visits[400:] - visits[:400], rng.uniform(0, 20_000, 2000)])
    scores = np.concatenate([rng.uniform(0.6, 0.9, 400), rng.uniform(0.1, 0.6, 2000)])
    fitted = fit_return_times(gaps, scores, CALIBRATION, np.zeros(800, int), visits)
    assert fitted(np.array([3.0]))[0] > 3
    assert fitted(np.array([-3.0])) == fitted(np.array([3.0]))
    assert fitted(np.array([5_000.0]))[0] < 0


def test_without_pairs_on_one_camera_their_times_count_for_nothing() -> None:
    empty = np.empty(0)
    fitted = fit_return_times(empty, empty, CALIBRATION, np.zeros(2, int), np.array([0.0, 9.0]))
    assert fitted(np.array([1.0, 1e6])).tolist() == [0.0, 0.0]
