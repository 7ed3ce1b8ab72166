import json

import numpy as np
import pytest

from qaconv.errors import InputError
from qaconv.tlift import TLiftProfile, temporal_lift

SIGHTINGS = ([[0.9, 0.2], [0.1, 0.8]], [0, 1], [0.0, 5.0], [0, 1], [3.0, 900.0])


def profile(**changes):
    values = {
        "deployment": "station",
        "camids": (0, 1),
        "tau_s": 100.0,
        "sigma_s": 200.0,
        "top_k": 10,
        "alpha": 0.2,
        "active": True,
        "reason": "all sightings have a time",
    }
    return TLiftProfile(**{**values, **changes})


def test_profile_lifts_as_the_paper_does_with_its_own_parameters():
    np.testing.assert_array_equal(profile(tau_s=7.0).lift(*SIGHTINGS), temporal_lift(*SIGHTINGS, tau=7.0))


def test_profile_that_is_off_gives_the_scores_back():
    np.testing.assert_array_equal(profile(active=False).lift(*SIGHTINGS), SIGHTINGS[0])


def test_unknown_camera_is_refused_by_number():
    with pytest.raises(InputError, match=r"gallery_camids: cameras \[1\] are not in station's profile: \[0\]"):
        profile(camids=(0,)).lift(SIGHTINGS[0], [0, 0], *SIGHTINGS[2:])


def test_saved_profile_comes_back_the_same(tmp_path):
    profile().save(tmp_path / "station.json")
    assert TLiftProfile.load(tmp_path / "station.json") == profile()


@pytest.mark.parametrize("text", ["", "[]", '{"version": 1}', '{"version": 1, "deployment": "a"}'])
def test_a_file_that_is_no_profile_is_refused_by_name(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match="a.json: is no TLift profile"):
        TLiftProfile.load(tmp_path / "a.json")


def test_profile_of_another_version_is_refused(tmp_path):
    profile().save(tmp_path / "a.json")
    values = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps({**values, "version": 9}))
    with pytest.raises(InputError, match="is a profile of version 9; this code reads 1"):
        TLiftProfile.load(tmp_path / "a.json")
