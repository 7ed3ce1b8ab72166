"""Two profiles of one target and model go in; what has changed between them comes out, in words.

Where people walk as they did, the old transit times foresee the gaps that the new profile has seen. A camera of whose
gaps they foresee little was moved, or its clock was set: then they foresee them once all are taken back alike.
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

KEPT = 0.5  # of what the new transit times foresee, and of the gain: if the old ones keep less, that is named
FEWEST_MATCHES = 30  # of a camera: fewer show no change
WINDOW = 1800.0  # seconds around a pair's centre, within which chance hardly changes
SHIFTS = np.arange(-3600.0, 3601.0, 10.0)  # seconds by which a clock may have been set
STEPS = 200  # in which gaps are looked at


@dataclass(frozen=True)
class _Seen:
    """What was seen between two cameras, at B gaps.

    Attributes:
        cameras: the lower number first.
        matches: about how many.
        gaps: [B] seconds.
        share: [B] of the matches.
        foreseen: nats a match by the new transit times.
        before: log likelihood ratios of gaps by the old ones.
    """

    cameras: tuple[int, int]
    matches: float
    gaps: Floats
    share: Floats
    foreseen: float
    before: Callable[[Floats], Floats]


def compare(old: TLiftProfile, new: TLiftProfile) -> list[str]:
    """One line a change that an operator should know of; none if the target is as it was.

    Args:
        old: the profile that is replaced.
        new: the one that replaces it.
    """
    changes = []
    if old.active != new.active:
        changes.append(f"time is {'used now' if new.active else 'no longer used'}: {new.reason}")
    for word, camids in (("new", set(new.camids) - set(old.camids)), ("gone", set(old.camids) - set(new.camids))):
        if camids:
            changes.append(f"cameras {word}: {sorted(camids)}")
    if old.active and new.active:
        changes += _moved(list(_seen(old, new)))
    before, now = (float(profile.evidence.get("gain_nats", 0.0)) for profile in (old, new))
    if now < KEPT * before:
        changes.append(f"matches gain {now:.2f} nats from their times, {before:.2f} before")
    return changes


def _moved(seen: list[_Seen]) -> Iterator[str]:
    """One camera after another, the most changed first; what it explains is laid aside."""
    while seen:
        camids = sorted({camid for each in seen for camid in each.cameras})
        kept = {camid: _share_kept(seen, camid, 0.0) for camid in camids}
        worst = min(camids, key=lambda camid: kept[camid])
        if kept[worst] >= KEPT:
            return
        shifted = {shift: _share_kept(seen, worst, shift) for shift in SHIFTS}
        shift = max(shifted, key=lambda each: shifted[each])
        why = f"its clock shows {shift:+.0f} s to what it did" if shifted[shift] >= KEPT else "it may have been moved"
        yield f"camera {worst}: its transit times are no longer what they were; {why}"
        seen = [each for each in seen if worst not in each.cameras]


def _share_kept(seen: list[_Seen], camid: int, shift: float) -> float:
    """What the old transit times foresee of one camera's gaps, were its clock set back, as a share of the new ones."""
    own = [each for each in seen if camid in each.cameras]
    if sum(each.matches for each in own) < FEWEST_MATCHES:
        return 1.0
    before = [each.share @ each.before(each.gaps - (shift if camid == each.cameras[1] else -shift)) for each in own]
    matches = np.array([each.matches for each in own])
    return float(matches @ before / (matches @ [each.foreseen for each in own]))


def _seen(old: TLiftProfile, new: TLiftProfile) -> Iterator[_Seen]:
    """Of each two cameras that both profiles have placed."""
    numbers = {pair: number for number, pair in enumerate(combinations(old.camids, 2))}
    at = np.linspace(-1, 1, STEPS) * np.arcsinh(WINDOW / SCALE)
    counts = new.evidence["matches_by_pair"]
    for number, (pair, matches) in enumerate(zip(combinations(new.camids, 2), counts, strict=True)):
        centre, was = new.transit.centres[number], numbers.get(pair)
        if centre is None or was is None or old.transit.centres[was] is None:
            continue
        gaps = centre + SCALE * np.sinh(at)
        now = new.transit(number, gaps)
        share = np.exp(now) * np.cosh(at)
        share /= share.sum()
        yield _Seen(pair, matches, gaps, share, float(share @ now), partial(old.transit, was))
