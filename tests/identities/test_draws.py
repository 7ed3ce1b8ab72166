import numpy as np
import pandas as pd
import pytest

from qaconv.identities.clustering import Identities
from qaconv.identities.draws import draw_people
from qaconv.identities.graph import Edges
from qaconv.identities.people import count_people, summarise

NAN = float("nan")


def sightings(count: int, *, tracks: list[str] | None = None, times: list[float] | None = None) -> pd.DataFrame:
    """Return sightings on two cameras in turn."""
    camid = np.arange(count) % 2
    return pd.DataFrame({"camid": camid, "time_s": times or [NAN] * count, "track": tracks or [""] * count})


def grouped(*identity: int) -> Identities:
    numbers = np.array(identity)
    return Identities(numbers, np.ones(len(numbers)), (), pd.DataFrame(), int(numbers.max()))


def edges_of(*pairs: tuple[int, int, float]) -> Edges:
    return Edges.join(*zip(*pairs, strict=True))


def pairs_within(identity: np.ndarray, log_odds: float) -> list[tuple[int, int, float]]:
    one, other = np.nonzero(np.triu(identity[:, None] == identity, 1))
    return [(int(i), int(j), log_odds) for i, j in zip(one, other, strict=True)]


def test_identities_that_nothing_joins_or_splits_are_the_people() -> None:
    identity = np.repeat(np.arange(1, 21), 3)
    people = draw_people(sightings(60), grouped(*identity), edges_of(*pairs_within(identity, 6.0)))
    assert count_people(people).value == pytest.approx(20, abs=0.3)


def test_a_lone_sighting_that_resembles_an_identity_is_often_the_same_person() -> None:
    identity = np.array([1, 1, 1, 1, 2])
    alike = edges_of(*pairs_within(identity, 6.0), *((row, 4, 2.0) for row in range(4)))
    other = edges_of(*pairs_within(identity, 6.0), *((row, 4, -5.0) for row in range(4)))
    assert count_people(draw_people(sightings(5), grouped(*identity), alike)).value < 1.3
    assert count_people(draw_people(sightings(5), grouped(*identity), other)).value > 1.9


def test_an_identity_of_two_halves_that_do_not_resemble_each_other_is_often_two_people() -> None:
    identity = np.repeat([1, 2, 3, 4], [8, 4, 4, 4])
    part = np.repeat([1, 2, 3, 4, 5], 4)
    halves = edges_of(*pairs_within(part, 6.0), *((i, j, -4.0) for i in range(4) for j in range(4, 8)))
    people = draw_people(sightings(20), grouped(*identity), halves)
    assert count_people(people).value > 4.3
    apart = people[people[:, 0] != people[:, 4]]
    assert len(apart) and (apart[:, :4] == apart[:, :1]).all() and (apart[:, 4:8] == apart[:, 4:5]).all()


def test_the_sightings_of_a_track_stay_together() -> None:
    identity = np.ones(8, dtype=np.int64)
    tracks = ["a", "a", "a", "b", "b", "b", "b", "b"]
    people = draw_people(sightings(8, tracks=tracks), grouped(*identity), edges_of(*pairs_within(identity, 0.0)))
    assert (people[:, :3] == people[:, :1]).all() and (people[:, 3:] == people[:, 3:4]).all()
    assert (people[:, 0] != people[:, 3]).any()


def test_an_identity_of_one_track_shows_one_person() -> None:
    identity = np.repeat([1, 2], 4)
    people = draw_people(
        sightings(8, tracks=["a"] * 4 + ["b"] * 4), grouped(*identity), edges_of(*pairs_within(identity, -4.0))
    )
    assert (people[:, 0] != people[:, 4]).all() and count_people(people).value == 2


def test_an_identity_is_split_less_often_where_all_seem_to_show_as_many_people() -> None:
    identity = np.repeat(np.arange(10), 6)
    poor = edges_of(*pairs_within(identity, -1.0))
    rest = identity[identity > 0]
    one_poor = edges_of(*pairs_within(identity[:6], -1.0), *((i + 6, j + 6, x) for i, j, x in pairs_within(rest, 6.0)))

    def is_split(edges: Edges) -> float:
        people = draw_people(sightings(60), grouped(*identity), edges)
        return float((people[:, :6] != people[:, :1]).any(axis=1).mean())

    assert is_split(poor) < 0.6 * is_split(one_poor)


def test_tracks_that_overlap_on_one_camera_are_never_one_person() -> None:
    identity = np.array([1, 2, 1, 2])
    frame = pd.DataFrame({"camid": 0, "time_s": [0.0, 5.0, 10.0, 15.0], "track": ["a", "b", "a", "b"]})
    alike = edges_of(*pairs_within(np.ones(4), 6.0))
    assert count_people(draw_people(frame, grouped(*identity), alike)).low == 2
    after = frame.assign(time_s=[0.0, 11.0, 10.0, 15.0])
    assert count_people(draw_people(after, grouped(*identity), alike)).low == 1


def test_the_same_identities_give_the_same_draws() -> None:
    identity = np.repeat(np.arange(5), 3)
    once, again = (
        draw_people(sightings(15), grouped(*identity), edges_of(*pairs_within(identity, 0.5))) for _ in range(2)
    )
    assert np.array_equal(once, again)


def test_a_summary_of_a_target_without_times_has_people_but_no_flows() -> None:
    identity = np.array([1, 1, 2])
    summary = summarise(sightings(3), grouped(*identity), edges_of((0, 1, 5.0)), time_used=False)
    assert (summary.sightings, summary.identities, summary.flows, summary.dwell) == (3, 2, (), ())
    assert summary.people.low <= 2 <= summary.people.high
