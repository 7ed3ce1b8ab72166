import numpy as np

from benchmarks.identities_scale import draw_crowd, measure
from qaconv.tlift import TLiftProfile
from qaconv.tlift.calibration import Calibration
from qaconv.tlift.probability import MatchOdds
from qaconv.tlift.transit import TransitTable

ODDS = MatchOdds(Calibration([-10.0, 10.0], [-10.0, 10.0]), 0.5, sightings=3000, span_s=30_000.0)
TRANSIT = TransitTable([0.0] * 3, 1.0, [[0.0] * 20] * 3)


def test_a_small_crowd_is_grouped_and_new_tracks_join() -> None:
    rng = np.random.default_rng(0)
    crowd = draw_crowd(12, 3, rng.normal(4, 1, 1000), rng.normal(-8, 1, 1000))
    profile = TLiftProfile("crowd", (0, 1, 2), active=True, reason="", match_odds=ODDS, transit=TRANSIT)
    lines: list[str] = []
    measure(crowd, profile, 2, lines.append)
    assert " sightings of 2 new tracks join in " in lines[2]
    assert float(lines[3].split()[2].rstrip(",")) > 80  # B-cubed F1
