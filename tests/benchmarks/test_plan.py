"""The plan's formulas count what the stages hold."""

import pytest

from benchmarks.plan import Target, hours, measure_rates, size


def test_time_grows_with_the_square_of_the_sightings_and_disk_with_pairs_of_blocks() -> None:
    one, ten = Target(1_000_000, 6), Target(10_000_000, 6)
    assert ten.pairs / one.pairs == pytest.approx(100, rel=0.01)
    assert ten.block == one.block == 8192 and Target(26_000, 6).block == 1625
    assert 10 < ten.disk_bytes / one.disk_bytes < 100


def test_a_target_of_20_000_queries_needs_the_bytes_that_the_page_states() -> None:
    target = Target(520_000, 6)
    assert target.queries == 20_000
    assert target.match_bytes == pytest.approx(12 * 8192 * (4608 + 8192), rel=0.01)
    assert size(target.match_bytes) == "1.3 GB"


def test_more_cameras_need_memory_in_the_fit_by_pairs_and_in_evaluate_by_queries() -> None:
    few, many = Target(1_000_000, 100), Target(1_000_000, 200)
    assert many.fit_bytes - few.fit_bytes == pytest.approx(8 * 8 * 188 * (19_900 - 4_950))
    assert many.evaluate_bytes - few.evaluate_bytes == 160 * 38_461 * 100


def test_rates_come_from_the_measurements_that_the_repository_keeps() -> None:
    rates = measure_rates()
    assert rates.gpu_pairs > 10 * rates.core_pairs > 0 and rates.core_images > 100
    assert (hours(0.5), hours(5.0), hours(240.0)) == ("30 min", "5 h", "10 days")
