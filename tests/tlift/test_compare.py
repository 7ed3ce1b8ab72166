from qaconv.tlift import TLiftProfile
from qaconv.tlift.compare import compare
from qaconv.tlift.profile import TransitTable


def profile(centres=(60.0, 80.0, 20.0), gain=2.0, camids=(0, 1, 2), active=True):
    table = TransitTable(list(centres), 1.0, [[0.0] * 20] * 3)
    return TLiftProfile("a", camids, active, "why", transit=table, evidence={"gain_nats": gain})


def test_an_unchanged_deployment_has_no_changes():
    assert compare(profile(), profile((61.0, 79.0, 25.0), 1.9)) == []


def test_a_clock_that_was_set_is_told_by_its_camera():
    changes = compare(profile(), profile((60.0, 680.0, 620.0)))
    assert "cameras 0 and 2: transit times moved by +600 s" in changes
    assert "camera 2: most of its transit times moved; was it moved, or its clock set?" in changes
    assert not any(line.startswith("camera 0:") or line.startswith("camera 1:") for line in changes)


def test_lost_gain_and_lost_cameras_are_named():
    changes = compare(profile(), profile(gain=0.5, camids=(0, 1), centres=(60.0,), active=False))
    assert changes[0] == "time is no longer used: why"
    assert changes[1] == "cameras gone: [2]"
    assert changes[-1] == "matches gain 0.50 nats from their times, 2.00 before"
