"""A fit of many neighbours reads a sample of them, and holds no more than that."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from qaconv.metrics import evaluate_ranking
from qaconv.synthetic.network import NetworkSettings, simulate
from qaconv.tables import ComputedTable, Rows
from qaconv.tlift import TLiftProfile, fit_profile, neighbours, parameter_selection, sampling
from qaconv.tlift.parameter_selection import Window
from qaconv.tlift.sampling import Sample
from tests.tlift.simulated import Sightings, simulated

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

WIDTH = 60


@pytest.fixture(scope="module")
def walks() -> Sightings:
    return simulated(seed=21, people=150)


@pytest.fixture(scope="module")
def everything(walks: Sightings) -> TLiftProfile:
    return fitted(walks)


def fitted(walks: Sightings, seed: int = 0) -> TLiftProfile:
    return fit_profile(*walks.neighbours(WIDTH), walks.camids, walks.times, drawn=drawn(walks), seed=seed)


def drawn(walks: Sightings) -> tuple[Ints, Ints, Floats]:
    count = len(walks.pids)
    one, other = np.divmod(np.random.default_rng(3).permutation(count * count)[:200_000], count)
    return one, other, walks.table[one, other]


def sampled(walks: Sightings, share: float, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> TLiftProfile:
    """Fit to a share of the neighbours, and to the queries that parameters are chosen on."""
    monkeypatch.setattr(sampling, "MOST_NEIGHBOURS", int(share * len(walks.pids) * WIDTH))
    return fitted(walks, seed)


def as_bytes(profile: TLiftProfile, path: Path) -> bytes:
    profile.save(path)
    return path.read_bytes()


def lifted_map(walks: Sightings, profile: TLiftProfile) -> float:
    query = np.arange(len(walks.pids)) % 4 == 0
    sides = walks.camids[query], walks.times[query], walks.camids[~query], walks.times[~query]
    lifted = profile.lift(walks.table[np.ix_(query, ~query)], *sides)
    return evaluate_ranking(lifted, walks.pids[query], walks.pids[~query], sides[0], sides[2]).mean_average_precision


def test_blocks_of_any_size_change_no_byte_of_a_fit_that_reads_all(
    walks: Sightings, everything: TLiftProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "sampled_sightings" not in everything.evidence
    monkeypatch.setattr(neighbours, "BLOCK_NEIGHBOURS", 7 * WIDTH)
    assert as_bytes(fitted(walks), tmp_path / "a") == as_bytes(everything, tmp_path / "b")


def test_the_same_seed_gives_the_same_bytes_of_a_sample_and_another_seed_others(
    walks: Sightings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again, other = (
        as_bytes(sampled(walks, 0.5, monkeypatch, seed), tmp_path / str(number))
        for number, seed in enumerate((1, 1, 2))
    )
    assert first == again != other


def test_a_fit_of_half_of_the_neighbours_lifts_within_2_points_and_states_as_many_matches(
    walks: Sightings, everything: TLiftProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = sampled(walks, 0.5, monkeypatch)
    assert 0.3 * len(walks.pids) < half.evidence["sampled_sightings"] < 0.6 * len(walks.pids)
    assert lifted_map(walks, half) > lifted_map(walks, everything) - 0.02
    apart = walks.camids[:, None] != walks.camids
    places = walks.camids, walks.times, walks.camids, walks.times
    expected = []
    for profile in (everything, half):
        stated = profile.probabilities(walks.table, *places)
        assert stated is not None and profile.match_odds is not None
        assert profile.match_odds.sightings == len(walks.pids)
        expected.append(stated[apart].sum())
    assert expected[1] == pytest.approx(expected[0], rel=0.15)


def test_a_jump_of_a_clock_is_found_in_a_sample(walks: Sightings, monkeypatch: pytest.MonkeyPatch) -> None:
    jumped = walks.at(walks.times + 600 * ((walks.camids == 2) & (walks.times > 4 * 3600.0)))
    found = sampled(jumped, 0.5, monkeypatch)
    assert found.clocks[2].jumps[0][1] == pytest.approx(600, abs=30)


def test_cameras_with_few_sightings_keep_all_their_pairs_and_their_transit_times(
    walks: Sightings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    kept = np.flatnonzero((walks.camids != 3) | (rng.random(len(walks.pids)) < 0.05))
    thinned = Sightings(walks.pids[kept], walks.camids[kept], walks.times[kept], walks.table[np.ix_(kept, kept)])
    whole, part = fitted(thinned), sampled(thinned, 0.3, monkeypatch)
    assert [centre is None for centre in part.transit.centres] == [centre is None for centre in whole.transit.centres]
    of_camera_3 = [2, 4, 5]  # of the pairs (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)
    for number in of_camera_3:
        expected = whole.evidence["matches_by_pair"][number]
        assert part.evidence["matches_by_pair"][number] == pytest.approx(expected, rel=0.5)
    others = [0, 1, 3]
    assert sum(part.evidence["matches_by_pair"][number] for number in others) < 0.6 * sum(
        whole.evidence["matches_by_pair"][number] for number in others
    )


@pytest.mark.parametrize(("cameras", "share"), [(4, 0.5), (4, 0.05), (300, 0.1)])
def test_each_pair_is_read_about_as_often_as_the_share_of_neighbours_that_are_read(
    cameras: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    camids = np.repeat(np.arange(cameras), 12_000 // cameras)
    no_query = Window(np.ones(12_000, bool), np.zeros(12_000, bool))
    many = np.ones((cameras, cameras), dtype=np.int64)
    monkeypatch.setattr(sampling, "WHOLE_SHARE", 0.0)
    one, other = np.random.default_rng(1).integers(0, 12_000, (2, 100_000))
    read = np.mean([Sample.draw(share, many, camids, no_query, seed).reads(one, other) for seed in range(40)], axis=0)
    assert read.mean() == pytest.approx(share, rel=0.1)
    assert (read > 0).mean() > 0.8


def test_a_fit_of_many_neighbours_holds_less_than_the_neighbours_take(monkeypatch: pytest.MonkeyPatch) -> None:
    walks = simulate(NetworkSettings(seed=5, cameras=5, people=600))
    count, width = len(walks), 200
    person, rows_of = walks["person"].to_numpy(), walks.groupby("person").indices
    first = np.array([rows_of[number][0] for number in range(600)])[person]
    seen = np.bincount(person)[person]

    def read(rows: Rows) -> tuple[Ints, Floats]:
        """Return neighbours of one's own person first, and then of anyone."""
        numbers = np.arange(count)[rows]
        places = np.random.default_rng(numbers[0]).integers(0, count, (len(numbers), width))
        places[:, :10] = first[numbers, None] + np.arange(10) % seen[numbers, None]
        same = person[places] == person[numbers, None]
        scores = expit(np.where(same, 1.0, -1.0) + np.sin(numbers[:, None] * places))
        return places, scores

    tables = (
        ComputedTable((count, width), np.dtype(np.int64), lambda rows: read(rows)[0]),
        ComputedTable((count, width), np.dtype(np.float64), lambda rows: read(rows)[1]),
    )
    monkeypatch.setattr(sampling, "MOST_NEIGHBOURS", 50_000)
    monkeypatch.setattr(neighbours, "BLOCK_NEIGHBOURS", 20_000)
    monkeypatch.setattr(parameter_selection, "MAX_QUERIES", 40)
    monkeypatch.setattr(parameter_selection, "MAX_SIGHTINGS", 1_000)
    tracemalloc.start()
    try:
        profile = fit_profile(*tables, walks["camera"], walks["clock_s"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert profile.evidence["held_out_matches"] > 0
    assert peak < 16 * count * width  # bytes of indices and scores alone
