import numpy as np

from benchmarks.identities_scale import draw_crowd, fit, measure


def test_a_small_crowd_is_grouped_and_new_tracks_join() -> None:
    rng = np.random.default_rng(0)
    crowd = draw_crowd(60, rng.normal(3, 1, 1000), rng.normal(-3, 1, 1000))
    lines: list[str] = []
    measure(crowd, fit(crowd), 5, lines.append)
    assert len(lines) == 4
    assert " sightings of 5 new tracks join in " in lines[2]
    score = float(lines[3].split()[2].rstrip(","))
    assert score > 80
