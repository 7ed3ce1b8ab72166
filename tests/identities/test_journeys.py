import numpy as np
import pandas as pd

from qaconv.identities.journeys import list_dwell, list_flows, list_visits
from qaconv.tlift.fit import VISIT_SECONDS

NAN = float("nan")


def table(*rows: tuple[int, int, float]) -> pd.DataFrame:
    """Return sightings of (identity, camera, seconds), in which a later one is more probable."""
    frame = pd.DataFrame(rows, columns=["identity", "camid", "time_s"])
    images = [f"{number}.jpg" for number in range(len(rows))]
    return frame.assign(image=images, probability=np.linspace(0.5, 0.9, len(rows)))


def people(*draws: list[int]) -> np.ndarray:
    return np.array(draws, dtype=np.int32)


def test_a_gap_on_one_camera_begins_another_visit() -> None:
    visits = list_visits(table((7, 1, 0.0), (7, 1, VISIT_SECONDS), (7, 1, 2 * VISIT_SECONDS + 1), (7, 2, 50.0)))
    assert visits["camid"].tolist() == [1, 2, 1]
    assert visits["visit"].tolist() == [0, 1, 2]
    assert visits[["from_s", "to_s"]].iloc[0].tolist() == [0.0, VISIT_SECONDS]
    assert visits["sightings"].tolist() == [2, 1, 1]
    assert visits["image"].tolist() == ["1.jpg", "3.jpg", "2.jpg"]


def test_sightings_without_a_time_are_the_last_visit_to_their_camera() -> None:
    visits = list_visits(table((1, 0, NAN), (1, 0, 5.0), (1, 0, NAN), (2, 0, NAN)))
    assert visits["identity"].tolist() == [1, 1, 2]
    assert visits["sightings"].tolist() == [1, 2, 1]
    assert np.isnan(visits["from_s"].to_numpy()).tolist() == [False, True, True]


def test_flows_follow_the_order_of_visits_and_come_from_one_identity() -> None:
    sightings = table((1, 0, 0.0), (1, 2, 60.0), (1, 0, 200.0), (2, 0, 10.0), (2, 2, 70.0), (3, 1, 20.0), (3, 1, NAN))
    (out, back) = list_flows(sightings, people([1, 1, 1, 2, 2, 3, 3]))
    assert (out.from_camid, out.to_camid, out.journeys) == (0, 2, 2)
    assert (back.from_camid, back.to_camid, back.journeys) == (2, 0, 1)


def test_the_interval_of_a_flow_holds_what_the_draws_say() -> None:
    sightings = table(*((one, camera, 500.0 * one + 60 * camera) for one in range(20) for camera in (0, 1)))
    sure = np.repeat(np.arange(20), 2).tolist()
    alone = np.arange(40).tolist()
    (surer,) = list_flows(sightings, people(*[sure] * 50))
    (flow,) = list_flows(sightings, people(*[sure] * 25, *[alone] * 25))
    assert flow.journeys == surer.journeys == 20
    assert 0 <= flow.low < surer.low < 20 < surer.high


def test_dwell_is_the_median_length_of_the_visits_that_have_one() -> None:
    sightings = table((1, 0, 0.0), (1, 0, 10.0), (2, 0, 100.0), (2, 0, 130.0), (3, 0, 50.0), (3, 0, NAN), (3, 1, 9.0))
    (dwell,) = list_dwell(sightings, people(*[[1, 1, 2, 2, 3, 3, 3]] * 20))
    assert (dwell.camid, dwell.visits, dwell.median_s) == (0, 2, 20.0)
    assert (dwell.low_s, dwell.high_s) == (10.0, 30.0)


def test_without_times_there_are_visits_but_no_flows_and_no_dwell() -> None:
    sightings = table((1, 0, NAN), (1, 1, NAN), (1, 1, NAN))
    assert list_visits(sightings)["sightings"].tolist() == [1, 2]
    assert not list_flows(sightings, people([1, 1, 1]))
    assert not list_dwell(sightings, people([1, 1, 1]))
