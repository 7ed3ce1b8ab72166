import re
from dataclasses import replace

import numpy as np
import pytest

from qaconv.tlift import TLiftProfile, fit_profile
from qaconv.tlift.profile_diff import compare
from qaconv.tlift.transit import BIN, TransitTable
from tests.tlift.simulated import simulated

REACH = 9.0
NEAR_CENTRE = np.where(np.abs(np.arange(-REACH, REACH, BIN)) < 1.5, 3.0, -3.0).tolist()  # a walk takes a minute or so


def profile(
    centres: tuple[float, ...] = (60.0, 80.0, 20.0),
    gain: float = 2.0,
    camids: tuple[int, ...] = (0, 1, 2),
    active: bool = True,
    matches: float = 50.0,
) -> TLiftProfile:
    table = TransitTable(list(centres), REACH, [NEAR_CENTRE] * len(centres))
    evidence = {"gain_nats": gain, "matches_by_pair": [matches] * len(centres)}
    return TLiftProfile("a", camids, active, "why", transit=table, evidence=evidence)


def test_an_unchanged_target_has_no_changes() -> None:
    assert compare(profile(), profile((61.0, 79.0, 25.0), 1.9)) == []


def test_a_clock_that_was_set_is_reported_with_its_camera() -> None:
    (change,) = compare(profile(), profile((60.0, 680.0, 620.0)))
    assert change == "camera 2: its transit times have changed; its clock was set by +600 s"


def test_a_camera_that_was_moved_is_not_reported_as_a_clock_that_was_set() -> None:
    (change,) = compare(profile(), profile((260.0, 80.0, -110.0)))
    assert change == "camera 1: its transit times have changed; it may have been moved"


def test_a_handful_of_matches_shows_no_change() -> None:
    assert compare(profile(), profile((60.0, 680.0, 620.0), matches=5.0)) == []


def test_lost_gain_and_lost_cameras_are_reported() -> None:
    changes = compare(profile(), profile(gain=0.5, camids=(0, 1), centres=(60.0,), active=False))
    assert changes[0] == "time is no longer used: why"
    assert changes[1] == "cameras gone: [2]"
    assert changes[-1] == "matches gain 0.50 nats from their times, 2.00 before"


@pytest.mark.parametrize(
    ("roof", "expected"),
    [
        ((80.0, 20.0), []),
        ((680.0, 620.0), ["camera roof: its transit times have changed; its clock was set by +600 s"]),
    ],
)
def test_a_new_camera_whose_name_shifts_the_numbers_changes_no_other(
    roof: tuple[float, float], expected: list[str]
) -> None:
    old = replace(profile(), cameras={0: "hall", 1: "lift", 2: "roof"})
    new = replace(
        profile((300.0, -200.0, 500.0, 60.0, *roof), camids=(0, 1, 2, 3)),
        cameras={0: "entrance", 1: "hall", 2: "lift", 3: "roof"},
    )
    assert compare(old, new) == ["cameras new: ['entrance']", *expected]


@pytest.mark.parametrize("seed", [21, 22, 23])
def test_two_sound_days_have_no_changes_and_a_clock_set_at_night_is_found(seed: int) -> None:
    before, after = (simulated(seed, people=90, days=2, day=day) for day in (0, 1))
    profiles = [
        fit_profile(*day.neighbours(), day.camids, day.times)
        for day in (before, after, after.at(after.times + 600 * (after.camids == 2)))
    ]
    assert compare(profiles[0], profiles[1]) == []
    (change,) = compare(profiles[0], profiles[2])
    assert change.startswith("camera 2: ")
    shift = re.search(r"set by \+(\d+) s", change)
    assert shift is not None and int(shift[1]) == pytest.approx(600, abs=60)
