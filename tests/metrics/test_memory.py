"""Metrics use the memory of one block of pairs in addition to the table of scores."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qaconv.metrics import (
    Calibration,
    Reliability,
    evaluate_ranking,
    evaluate_verification,
    measure_reliability,
    sightings,
)
from qaconv.metrics.sightings import Sightings

Ints = NDArray[np.int64]
Table = tuple[NDArray[np.float32], Ints, Ints, Ints, Ints]

QUERIES, GALLERY = 500, 20_000
BLOCK_PAIRS = 1 << 17  # a sixteenth of the usual, so that a small table has many blocks
BOUND = 16 << 20


@pytest.fixture(scope="module")
def data() -> Table:
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((QUERIES, GALLERY), dtype=np.float32)
    assert scores.nbytes > 2 * BOUND
    where = (rng.integers(1, 500, QUERIES), rng.integers(1, 500, GALLERY))
    return scores, *where, rng.integers(0, 6, QUERIES), rng.integers(0, 6, GALLERY)


def reliability(*data: Any) -> Reliability:
    return measure_reliability(Calibration(1.0, 0.0, 1, 1), Sightings(*data).pairs("drop"))


@pytest.mark.parametrize("measure", [evaluate_ranking, evaluate_verification, reliability])
def test_memory_stays_below_half_a_copy_of_the_scores(
    data: Table,
    measure: Callable[..., object],
    peak_bytes: Callable[[Callable[[], object]], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sightings, "BLOCK_PAIRS", BLOCK_PAIRS)
    assert peak_bytes(lambda: measure(*data)) < BOUND
