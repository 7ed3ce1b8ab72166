"""Check the clocks of cameras by their times alone, and correct times by what is known of a clock.

N sightings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qaconv.tlift.findings import LEFT_OUT, Finding

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MIN_SIGHTINGS = 10  # a camera with fewer uses the statistics of the others
MAX_SPAN_RATIO = (
    8.0  # to the median span of the other cameras: frames (24 and more a second) and milliseconds exceed it
)
MIN_SPAN = 60.0  # seconds that the middle times of some camera span: those of a day in hours or days do not
MIN_FOR_SPAN = 30  # sightings of all cameras; fewer may be of a minute
MAX_DISTANCE = 20.0  # spans of the middle 80 per cent, from the median: beyond, a time is impossible
GAP_SHARE = 0.25  # of the span of all times: a camera that saw nothing for this long has a gap


@dataclass(frozen=True)
class ClockCorrection:
    """How the times of one camera are corrected.

    Attributes:
        drift: seconds that the clock gains on the other cameras in a second.
        origin_s: time from which drift counts, in seconds.
        jumps: (time, seconds) in order: from this time on, the clock shows this many seconds too many.
    """

    drift: float = 0.0
    origin_s: float = 0.0
    jumps: Sequence[tuple[float, float]] = field(default_factory=list)

    def __call__(self, times: Floats) -> Floats:
        """Return the times as a sound clock would have shown them."""
        corrected = times - self.drift * (times - self.origin_s)
        for start, seconds in self.jumps:
            corrected = corrected - np.where(times >= start, seconds, 0.0)
        return corrected


def correct_times(corrections: Mapping[int, ClockCorrection], camids: Ints, times: Floats) -> Floats:
    """Correct the times [N] of the cameras that have a correction."""
    corrected = times.copy()
    for camid, correction in corrections.items():
        on_camera = camids == camid
        corrected[on_camera] = correction(times[on_camera])
    return corrected


def check_clocks(camids: Ints, times: Floats) -> tuple[list[Finding], Bools]:
    """Find missing and impossible times, wrong units, and cameras with gaps or few sightings.

    Args:
        camids: [N].
        times: [N] seconds, NaN where unknown.

    Returns:
        The findings, and a mask [N] of the sightings whose times are used.
    """
    findings: list[Finding] = []
    used = np.isfinite(times)
    if not used.any():
        return [], used
    spans = {int(camid): _middle_span(times[(camids == camid) & used]) for camid in np.unique(camids)}
    too_short = int(used.sum()) >= MIN_FOR_SPAN and max(spans.values()) < MIN_SPAN
    for camid, span in spans.items():
        on_camera = camids == camid
        if missing := int((on_camera & ~used).sum()):
            detail = f"{missing} of {on_camera.sum()} sightings have no time"
            findings.append(Finding(camid, "missing", None, detail, LEFT_OUT))
        if too_short and (on_camera & used).any():
            detail = f"its times span {span:.3g} s, as short as those of all cameras: hours or days instead of seconds?"
            findings.append(Finding(camid, "unit", float(times[on_camera & used].min()), detail, LEFT_OUT))
            used &= ~on_camera
            continue
        other_spans = [value for other, value in spans.items() if other != camid and value > 0]
        if other_spans and span > MAX_SPAN_RATIO * float(np.median(other_spans)):
            detail = (
                f"its times span {span / float(np.median(other_spans)):.0f} times those of the other cameras: "
                "frames or milliseconds instead of seconds?"
            )
            findings.append(Finding(camid, "unit", float(times[on_camera & used].min()), detail, LEFT_OUT))
            used &= ~on_camera
            continue
        findings += _leave_out_impossible(camid, on_camera, times, used)
        findings += _few_or_gap(camid, times[on_camera & used], times[used])
    return findings, used


def find_duplicates(camids: Ints, times: Floats, nearest: Ints) -> list[Finding]:
    """Find sightings of one camera and time that are each other's nearest neighbour.

    Args:
        camids: [N].
        times: [N] seconds.
        nearest: nearest neighbour of each sighting, [N].
    """
    rows = np.arange(len(nearest))
    twice = (nearest[nearest] == rows) & (camids[nearest] == camids) & (times[nearest] == times) & (rows < nearest)
    findings = []
    for camid in sorted(set(camids[twice].tolist())):
        duplicates = np.flatnonzero(twice & (camids == camid))
        detail = f"{len(duplicates)} sightings seem to be stored twice"
        findings.append(Finding(camid, "duplicates", float(times[duplicates[0]]), detail, "kept"))
    return findings


def _middle_span(times: Floats) -> float:
    """Span of the middle 80 per cent."""
    return float(np.subtract(*np.quantile(times, [0.9, 0.1]))) if len(times) else 0.0


def _leave_out_impossible(camid: int, on_camera: Bools, times: Floats, used: Bools) -> list[Finding]:
    """Remove impossible times from `used`, in place."""
    known = on_camera & used
    if not known.any():
        return []
    median = float(np.median(times[known]))
    span = _middle_span(times[known])
    impossible = known & (np.abs(times - median) > MAX_DISTANCE * max(span, 1.0))
    used &= ~impossible
    if not impossible.any():
        return []
    first = float(times[impossible].min())
    detail = f"{impossible.sum()} times lie far from all others, such as {first:g}"
    return [Finding(camid, "impossible", first, detail, LEFT_OUT)]


def _few_or_gap(camid: int, times: Floats, all_times: Floats) -> list[Finding]:
    if len(times) < MIN_SIGHTINGS:
        detail = f"{len(times)} sightings with a time; {MIN_SIGHTINGS} are needed for statistics of its own"
        first = float(times.min()) if len(times) else None
        return [Finding(camid, "few", first, detail, "pooled statistics")]
    ordered = np.sort(times)
    widest = int(np.argmax(np.diff(ordered)))
    start, end = ordered[widest], ordered[widest + 1]
    if end - start > GAP_SHARE * np.ptp(all_times):
        return [Finding(camid, "gap", float(start), f"nothing seen for {end - start:.0f} s", "kept")]
    return []
