"""Mutual best matches go in; clocks that drift or jump against the others come out, with how to read them.

Where two clocks run alike, the gaps of one pair of cameras lie at a few walking times; a clock that drifts smears them,
and one that jumps doubles them. A change of one camera's clock is accepted where it makes the gaps of all its pairs so
much more concentrated that chance does not explain it. M matches.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from qaconv.tlift.clocks import ClockMend, Finding, mend_times

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STEP = 10.0  # seconds: gaps are counted in bins so wide
REACH = 3600.0  # seconds: the farthest jump that is looked for
DRIFTS = np.concatenate([-np.geomspace(5e-3, 4e-4, 16), np.geomspace(4e-4, 5e-3, 16)])  # half a per cent at most
BOUNDARIES_PER_HOUR = 2
FEWEST_MATCHES = 20  # on either side of a jump
LEAST_GAIN = 18.0  # nats; on simulated networks nothing wrong gained 15
LEAST_JUMP = 30.0  # seconds: a smaller one is no worse than a walker's pace
FLOOR = 1e-3  # share of gaps that lie anywhere within the reach
CROPS = 4.0  # matches of one walk, as crops of one pass say the same


def mend_clocks(camids: Ints, times: Floats, first: Ints, second: Ints) -> tuple[dict[int, ClockMend], list[Finding]]:
    """Reads the matches again and again, each time mending what concentrates them most.

    Args:
        camids: [N].
        times: [N] seconds.
        first: [M], one sighting of each match.
        second: [M], the other.

    Returns:
        How to read the clocks that need it, and what was found, in the order of their weight.
    """
    mends: dict[int, ClockMend] = {}
    findings: list[Finding] = []
    for _ in range(2 * len(np.unique(camids))):
        mended = mend_times(mends, camids, times)
        best = max(_proposals(camids, times, mended, first, second), default=None, key=lambda found: found[0])
        if best is None:
            break
        gain, camid, drift, jump = best
        old = mends.get(camid, ClockMend(origin_s=float(times[camids == camid].min())))
        jumps = sorted([*old.jumps, jump]) if jump else list(old.jumps)
        mends[camid] = ClockMend(old.drift + drift, old.origin_s, jumps)
        detail = (
            f"jumps by {jump[1]:+.0f} s" if jump else f"gains {100 * drift:+.3f} per cent on the other cameras"
        ) + f" ({gain:.0f} nats)"
        findings.append(Finding(camid, "jump" if jump else "drift", jump[0] if jump else None, detail, "mended"))
    return mends, findings


def _proposals(
    camids: Ints, times: Floats, mended: Floats, first: Ints, second: Ints
) -> Iterator[tuple[float, int, float, tuple[float, float] | None]]:
    """Gain, camera, drift and jump of what would concentrate one camera's gaps enough, seen from that camera."""
    for camid in np.unique(camids):
        of_first, of_second = camids[first] == camid, camids[second] == camid
        mine = of_first | of_second
        here, there = np.where(of_first, first, second)[mine], np.where(of_first, second, first)[mine]
        if len(here) < 2 * FEWEST_MATCHES:
            continue
        gaps, partner, at = mended[here] - mended[there], camids[there], times[here]
        into = at - times[camids == camid].min()
        before = _concentration(gaps, partner)
        drifted = [(_concentration(gaps - drift * into, partner) - before, drift) for drift in DRIFTS]
        gain, drift = max(drifted)
        if gain > LEAST_GAIN:
            yield gain, int(camid), float(drift), None
        for boundary in _boundaries(at):
            seconds = _shift(gaps, partner, at >= boundary)
            gain = _concentration(gaps - np.where(at >= boundary, seconds, 0.0), partner) - before
            if abs(seconds) >= LEAST_JUMP and gain > LEAST_GAIN:
                yield gain, int(camid), 0.0, (float(boundary), seconds)


def _boundaries(at: Floats) -> Floats:
    """Where a jump may lie: between sightings, with enough of them on both sides."""
    ordered = np.sort(at)
    low, high = ordered[FEWEST_MATCHES], ordered[-FEWEST_MATCHES]
    return np.arange(low, high, 3600.0 / BOUNDARIES_PER_HOUR)


def _concentration(gaps: Floats, partner: Ints) -> float:
    """Log likelihood of each gap under the others of its pair of cameras, in walks."""
    total = 0.0
    for camid in np.unique(partner):
        mine = gaps[partner == camid]
        bins = _bins(mine, float(np.median(mine)))
        density = gaussian_filter1d(np.bincount(bins, minlength=_BINS).astype(float), 1.0, mode="constant")
        own = CROPS * 0.4  # what the crops of one walk add to their own bin under the filter
        others = np.maximum(density[bins] - own, 0) / max(len(mine) - CROPS, 1.0)
        total += float(np.log(FLOOR / 10 + others).sum())
    return total / CROPS


def _shift(gaps: Floats, partner: Ints, after: NDArray[np.bool_]) -> float:
    """Seconds by which the later gaps lie beyond the earlier ones, over all partners together."""
    fit = np.zeros(2 * _BINS - 1)
    for camid in np.unique(partner):
        mine = partner == camid
        if min((mine & after).sum(), (mine & ~after).sum()) < 5:
            continue
        centre = float(np.median(gaps[mine]))
        early, late = (
            np.bincount(_bins(gaps[mine & side], centre), minlength=_BINS).astype(float) for side in (~after, after)
        )
        early = gaussian_filter1d(early / early.sum(), 1.0, mode="constant")
        expected = np.log(FLOOR / 10 + early) - np.log(FLOOR / 10)
        fit += np.correlate(late, expected, mode="full")
    lags = np.arange(-_BINS + 1, _BINS) * STEP
    fit[np.abs(lags) > REACH] = 0
    return float(lags[np.argmax(fit)]) if fit.any() else 0.0


_BINS = int(4 * REACH / STEP)


def _bins(gaps: Floats, centre: float) -> Ints:
    return np.clip((gaps - centre) / STEP + _BINS / 2, 0, _BINS - 1).astype(np.int64)
