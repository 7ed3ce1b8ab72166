import tracemalloc

import numpy as np
import pytest

from qaconv.tlift.transit import build_axis


def test_memory_for_chance_gaps_does_not_grow_with_the_time_that_sightings_span() -> None:
    camids = np.repeat([0, 1], 40)
    times = np.random.default_rng(0).uniform(0, 1e9, 80)  # in steps of 150 s they would fill 100 MB
    gaps = times[40:] - times[:40]
    tracemalloc.start()
    axis = build_axis(camids, times, gaps, np.zeros(40, dtype=np.int64), np.ones(40))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6
    assert axis.chance.sum() == pytest.approx(1)
