"""Compare two profiles of one target and model.

Where people walk as before, the old transit times predict the gaps that the new profile was fitted on. A camera whose
gaps they predict badly was moved, or its clock was set: in the second case they predict the gaps after all are shifted
by the same number of seconds. Cameras are compared by name where they have names, as a new one may change the numbers
of the others. B gaps.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from qaconv.tlift.profile import TLiftProfile
from qaconv.tlift.transit import SCALE

Floats = NDArray[np.float64]
Camera = int | str  # number, or name where the profile has names

MIN_SHARE = 0.5  # of the new gain; where the old transit times keep less, the camera is reported
MIN_MATCHES = 30  # of a camera; fewer show no change
WINDOW = 1800.0  # seconds around a pair's centre, within which chance hardly changes
SHIFTS = np.arange(-3600.0, 3601.0, 10.0)  # seconds by which a clock may have been set
STEPS = 200  # gaps in the window


@dataclass(frozen=True)
class _CameraPair:
    """The gaps between two cameras in the new profile.

    Attributes:
        cameras: names or numbers, the lower number first.
        matches: expected number of matches.
        gaps: [B] seconds.
        share: share of the matches at each gap, [B].
        new_gain: nats for each match by the new transit times.
        old_log_ratio: log likelihood ratio of gaps by the old transit times.
    """

    cameras: tuple[Camera, Camera]
    matches: float
    gaps: Floats
    share: Floats
    new_gain: float
    old_log_ratio: Callable[[Floats], Floats]


def compare(old: TLiftProfile, new: TLiftProfile) -> list[str]:
    """Return one line for each change that an operator should know of.

    Args:
        old: the profile that is replaced.
        new: the profile that replaces it.
    """
    changes = []
    if old.active != new.active:
        changes.append(f"time is {'used now' if new.active else 'no longer used'}: {new.reason}")
    before, after = _cameras(old), _cameras(new)
    for word, cameras in (("new", set(after) - set(before)), ("gone", set(before) - set(after))):
        if cameras:
            changes.append(f"cameras {word}: {sorted(cameras, key=str)}")
    if old.active and new.active:
        changes += _changed_cameras(list(_camera_pairs(old, new)))
    old_gain, new_gain = (float(profile.evidence.get("gain_nats", 0.0)) for profile in (old, new))
    if new_gain < MIN_SHARE * old_gain:
        changes.append(f"matches gain {new_gain:.2f} nats from their times, {old_gain:.2f} before")
    return changes


def _changed_cameras(pairs: list[_CameraPair]) -> Iterator[str]:
    """Report the most changed camera, leave its pairs out, and repeat."""
    while pairs:
        kept = {camera: _share_kept(pairs, camera, 0.0) for pair in pairs for camera in pair.cameras}
        worst = min(kept, key=lambda camera: kept[camera])
        if kept[worst] >= MIN_SHARE:
            return
        by_shift = {shift: _share_kept(pairs, worst, shift) for shift in SHIFTS}
        shift = max(by_shift, key=lambda candidate: by_shift[candidate])
        why = "it may have been moved"
        if by_shift[shift] >= MIN_SHARE:
            why = f"its clock was set by {shift:+.0f} s"
        yield f"camera {worst}: its transit times have changed; {why}"
        pairs = [pair for pair in pairs if worst not in pair.cameras]


def _share_kept(pairs: list[_CameraPair], camera: Camera, shift: float) -> float:
    """Share of the new gain that the old transit times keep for a camera's gaps after its clock is set back."""
    of_camera = [pair for pair in pairs if camera in pair.cameras]
    if sum(pair.matches for pair in of_camera) < MIN_MATCHES:
        return 1.0
    old_gains = [
        pair.share @ pair.old_log_ratio(pair.gaps - (shift if camera == pair.cameras[1] else -shift))
        for pair in of_camera
    ]
    matches = np.array([pair.matches for pair in of_camera])
    return float(matches @ old_gains / (matches @ [pair.new_gain for pair in of_camera]))


def _camera_pairs(old: TLiftProfile, new: TLiftProfile) -> Iterator[_CameraPair]:
    """Every two cameras that have a centre in both profiles."""
    # `prepare` numbers names in sorted order, so two cameras have the same order in both.
    old_numbers = {pair: number for number, pair in enumerate(combinations(_cameras(old), 2))}
    positions = np.linspace(-1, 1, STEPS) * np.arcsinh(WINDOW / SCALE)
    counts = new.evidence["matches_by_pair"]
    for number, (pair, matches) in enumerate(zip(combinations(_cameras(new), 2), counts, strict=True)):
        centre = new.transit.centres[number]
        old_number = old_numbers.get(pair)
        if centre is None or old_number is None or old.transit.centres[old_number] is None:
            continue
        gaps = centre + SCALE * np.sinh(positions)
        log_ratio = new.transit(number, gaps)
        share = np.exp(log_ratio) * np.cosh(positions)
        share /= share.sum()
        yield _CameraPair(pair, matches, gaps, share, float(share @ log_ratio), partial(old.transit, old_number))


def _cameras(profile: TLiftProfile) -> list[Camera]:
    """Name or number of each camera, in the order of numbers."""
    return [profile.cameras.get(camid, camid) for camid in profile.camids]
