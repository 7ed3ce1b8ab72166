"""Cameras and times go in; what is wrong with each clock comes out, and times that are mended where they can be.

N sightings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

FEWEST_SIGHTINGS = 10  # fewer leave a camera without statistics of its own
OTHER_UNIT = (
    8.0  # times the median span of the other cameras: frames (24 and more a second) and milliseconds lie beyond
)
FAR_OFF = 20.0  # middle ranges from the median: no day's sighting lies there
GAP_SHARE = 0.25  # of the span: a camera silent for so long while the others see is named
UNMENDED = "left out"


@dataclass(frozen=True)
class Finding:
    """One thing about one camera's clock.

    Attributes:
        camid: the camera.
        kind: reset, backwards, missing, impossible, unit, few, gap, duplicates, jump or drift.
        time_s: on the camera's clock, where it begins; None where the sightings concerned have no time.
        detail: what was found, for people.
        done: mended, left out, kept.
    """

    camid: int
    kind: str
    time_s: float | None
    detail: str
    done: str


@dataclass(frozen=True)
class ClockMend:
    """How one camera's times are read.

    Attributes:
        drift: seconds gained on the other cameras each second.
        origin_s: the time from which drift counts.
        jumps: (time, seconds) in order: from that time on, the clock shows so many seconds too many.
    """

    drift: float = 0.0
    origin_s: float = 0.0
    jumps: Sequence[tuple[float, float]] = field(default_factory=list)

    def __call__(self, times: Floats) -> Floats:
        """Times as the clock would have shown them had nothing happened to it."""
        mended = times - self.drift * (times - self.origin_s)
        for at, seconds in self.jumps:
            mended = mended - np.where(times >= at, seconds, 0.0)
        return mended


def mend_times(mends: Mapping[int, ClockMend], camids: Ints, times: Floats) -> Floats:
    """[N]: each camera's times as its mend reads them."""
    mended = times.copy()
    for camid, mend in mends.items():
        mended[camids == camid] = mend(times[camids == camid])
    return mended


def check_clocks(camids: Ints, times: Floats) -> tuple[list[Finding], Bools]:
    """What the times alone show, before anything is fitted.

    Args:
        camids: [N].
        times: [N] seconds, NaN where unknown.

    Returns:
        The findings, and [N] whether a sighting's time is used.
    """
    findings: list[Finding] = []
    used = np.isfinite(times)
    if not used.any():
        return [], used  # a camera network without times has no clocks to find fault with
    spans = {int(camid): _middle(times[(camids == camid) & used]) for camid in np.unique(camids)}
    for camid, span in spans.items():
        mine = camids == camid
        if missing := int((mine & ~used).sum()):
            findings.append(
                Finding(camid, "missing", None, f"{missing} of {mine.sum()} sightings have no time", UNMENDED)
            )
        others = [each for other, each in spans.items() if other != camid and each > 0]
        if others and span > OTHER_UNIT * float(np.median(others)):
            detail = (
                f"its times span {span / float(np.median(others)):.0f} times those of the other cameras: "
                "frames or milliseconds instead of seconds?"
            )
            findings.append(Finding(camid, "unit", float(times[mine & used].min()), detail, UNMENDED))
            used &= ~mine
            continue
        findings += _outliers(camid, mine, times, used)
        findings += _few_or_gap(camid, times[mine & used], times[used])
    return findings, used


def find_duplicates(camids: Ints, times: Floats, indices: Ints) -> list[Finding]:
    """Sightings of one camera and time that are each other's nearest neighbour: one crop stored twice, perhaps.

    Args:
        camids: [N].
        times: [N] seconds.
        indices: [N, k] neighbours, best first.
    """
    nearest = indices[:, 0]
    own = np.arange(len(nearest))
    twice = (nearest[nearest] == own) & (camids[nearest] == camids) & (times[nearest] == times) & (own < nearest)
    return [
        Finding(camid, "duplicates", float(times[found[0]]), f"{len(found)} sightings seem to be stored twice", "kept")
        for camid in sorted(set(camids[twice].tolist()))
        for found in [np.flatnonzero(twice & (camids == camid))]
    ]


def _middle(times: Floats) -> float:
    """Span of the middle 80 per cent."""
    return float(np.subtract(*np.quantile(times, [0.9, 0.1]))) if len(times) else 0.0


def _outliers(camid: int, mine: Bools, times: Floats, used: Bools) -> list[Finding]:
    """Impossible times are taken out of `used`."""
    known = mine & used
    if not known.any():
        return []
    centre, width = float(np.median(times[known])), _middle(times[known])
    far = known & (np.abs(times - centre) > FAR_OFF * max(width, 1.0))
    used &= ~far
    if not far.any():
        return []
    where = float(times[far].min())
    return [
        Finding(camid, "impossible", where, f"{far.sum()} times lie far from all others, such as {where:g}", UNMENDED)
    ]


def _few_or_gap(camid: int, times: Floats, everywhere: Floats) -> list[Finding]:
    if len(times) < FEWEST_SIGHTINGS:
        detail = f"{len(times)} sightings with a time; {FEWEST_SIGHTINGS} are needed for statistics of its own"
        first = float(times.min()) if len(times) else None
        return [Finding(camid, "few", first, detail, "pooled statistics")]
    ordered = np.sort(times)
    widest = int(np.argmax(np.diff(ordered)))
    start, end = ordered[widest], ordered[widest + 1]
    if end - start > GAP_SHARE * np.ptp(everywhere):
        return [Finding(camid, "gap", float(start), f"nothing seen for {end - start:.0f} s", "kept")]
    return []
