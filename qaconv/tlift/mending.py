"""Mutual best matches go in; clocks that drift or jump against the others come out, with how to read them.

Where two clocks run alike, the gaps of one pair of cameras lie at a few walking times; a clock that drifts smears
them, and one that jumps doubles them. A change of one camera's clock is accepted where it concentrates the gaps of its
pairs by more nats than chance gives the best of as many changes as were tried, even with the pair that gains most left
out: a clock that is wrong is wrong against every other camera, while one pair alone may change its ways at noon.
M matches, W walks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from qaconv.tlift.clocks import ClockMend, Finding, mend_times

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STEP = 10.0  # seconds: gaps are counted in bins so wide, and crops so close are of one pass
REACH = 3600.0  # seconds: the farthest jump that is looked for
BINS = int(4 * REACH / STEP)  # around the median gap of a pair
DRIFTS = np.concatenate([-np.geomspace(5e-3, 4e-4, 16), np.geomspace(4e-4, 5e-3, 16)])  # half a per cent at most
BOUNDARIES_PER_HOUR = 2
FEWEST_WALKS = 8  # on either side of a jump
BEST_SHIFTS = 3  # of each boundary, that are looked at closely: the way there and back may pass for one another
LEAST_JUMP = 30.0  # seconds: a smaller one is no worse than a walker's pace
FLOOR = 0.4  # share of false matches, whose gaps lie anywhere
OWN = float(gaussian_filter1d(np.eye(1, 99, 49)[0], 1.0)[49])  # what a walk adds to its own bin under the filter


@dataclass(frozen=True)
class _Walks:
    """Matches that crops of one pass on either camera make, taken together.

    Attributes:
        camids: [2, W], of the two cameras.
        times: [2, W] seconds, the means of the crops.
        weight: [W], how likely one of the matches is right.
    """

    camids: Ints
    times: Floats
    weight: Floats


def mend_clocks(
    camids: Ints, times: Floats, first: Ints, second: Ints, likely: Floats
) -> tuple[dict[int, ClockMend], list[Finding]]:
    """Reads the matches again and again, each time mending what concentrates them most.

    Args:
        camids: [N].
        times: [N] seconds.
        first: [M], one sighting of each match.
        second: [M], the other.
        likely: [M] in [0, 1), how likely each is right.

    Returns:
        How to read the clocks that need it, and what was found, in the order of their weight.
    """
    walks = _gather(camids, times, first, second, likely)
    mends: dict[int, ClockMend] = {}
    findings: list[Finding] = []
    for _ in range(2 * len(np.unique(camids))):
        best = max(_proposals(walks, mends), default=None, key=lambda found: found[0])
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


def _gather(camids: Ints, times: Floats, first: Ints, second: Ints, likely: Floats) -> _Walks:
    """One walk from matches whose crops are of the same passes."""
    order = np.lexsort((times, camids))
    apart = (np.diff(times[order]) > STEP) | (np.diff(camids[order]) != 0)
    passes = np.empty(len(order), dtype=np.int64)
    passes[order] = np.concatenate([[0], np.cumsum(apart)])
    _, some, walk = np.unique(passes[first] * len(order) + passes[second], return_index=True, return_inverse=True)
    crops = np.bincount(walk)
    means = [np.bincount(walk, times[side]) / crops for side in (first, second)]
    weight = 1 - np.exp(np.bincount(walk, np.log1p(-likely)))
    return _Walks(np.stack([camids[first[some]], camids[second[some]]]), np.stack(means), weight)


def _proposals(
    walks: _Walks, mends: dict[int, ClockMend]
) -> Iterator[tuple[float, int, float, tuple[float, float] | None]]:
    """Gain, camera, drift and jump of what would concentrate one camera's gaps enough, seen from that camera."""
    cameras = np.unique(walks.camids)
    mended = np.stack([mend_times(mends, *side) for side in zip(walks.camids, walks.times, strict=True)])
    for camid in cameras:
        own = walks.camids == camid
        mine = own.any(axis=0)
        if mine.sum() < 2 * FEWEST_WALKS:
            continue
        side = own[:, mine].argmax(axis=0)
        here, there = (np.take_along_axis(mended[:, mine], at[None], axis=0)[0] for at in (side, 1 - side))
        partner = np.take_along_axis(walks.camids[:, mine], (1 - side)[None], axis=0)[0]
        at = np.take_along_axis(walks.times[:, mine], side[None], axis=0)[0]
        gaps, weight = here - there, walks.weight[mine]
        boundaries = _boundaries(at)
        tried = len(cameras) * (len(DRIFTS) + len(boundaries) * 2 * REACH / STEP)
        before = _concentration(gaps, partner, weight)
        changes: list[tuple[float, tuple[float, float] | None]] = [(float(drift), None) for drift in DRIFTS]
        for boundary in boundaries:
            shifts = _shifts(gaps, partner, weight, at >= boundary)
            changes += [(0.0, (float(boundary), shift)) for shift in shifts if abs(shift) >= LEAST_JUMP]
        for drift, jump in changes:
            late = drift * (at - at.min()) if jump is None else np.where(at >= jump[0], jump[1], 0.0)
            gains = _concentration(gaps - late, partner, weight) - before
            gain = float(gains.sum() - max(gains.max(), 0.0))
            if gain > np.log(tried):
                yield gain, int(camid), drift, jump


def _boundaries(at: Floats) -> Floats:
    """Where a jump may lie: between walks, with enough of them on both sides."""
    ordered = np.sort(at)
    return np.arange(ordered[FEWEST_WALKS], ordered[-FEWEST_WALKS], 3600.0 / BOUNDARIES_PER_HOUR)


def _concentration(gaps: Floats, partner: Ints, weight: Floats) -> Floats:
    """For each other camera, the log likelihood of its gaps, each under the others of them."""
    found = []
    for camid in np.unique(partner):
        mine = partner == camid
        own = weight[mine]
        bins = _bins(gaps[mine], float(np.median(gaps[mine])))
        density = gaussian_filter1d(np.bincount(bins, own, minlength=BINS + 1)[:BINS], 1.0, mode="constant")
        others = np.maximum(np.append(density, 0.0)[bins] - OWN * own, 0) / max(own.sum() - own.mean(), 1e-9)
        found.append(float((own * np.log(FLOOR / BINS + (1 - FLOOR) * others)).sum()))
    return np.array(found)


def _shifts(gaps: Floats, partner: Ints, weight: Floats, after: NDArray[np.bool_]) -> list[float]:
    """Seconds by which the later gaps may lie beyond the earlier ones, over all partners together; likeliest first."""
    fit = np.zeros(2 * BINS - 1)
    for camid in np.unique(partner):
        mine = partner == camid
        if min((mine & after).sum(), (mine & ~after).sum()) < 3:
            continue
        centre = float(np.median(gaps[mine]))
        early, late = (
            np.bincount(_bins(gaps[side], centre), weight[side], minlength=BINS + 1)[:BINS]
            for side in (mine & ~after, mine & after)
        )
        early = gaussian_filter1d(early / max(early.sum(), 1e-9), 1.0, mode="constant")
        fit += np.correlate(late, np.log(FLOOR / BINS + (1 - FLOOR) * early) - np.log(FLOOR / BINS), mode="full")
    lags = np.arange(-BINS + 1, BINS) * STEP
    lags, fit = lags[np.abs(lags) <= REACH], fit[np.abs(lags) <= REACH]
    found: list[float] = []
    while fit.any() and len(found) < BEST_SHIFTS:
        found.append(float(lags[np.argmax(fit)]))
        fit = np.where(np.abs(lags - found[-1]) <= LEAST_JUMP, -np.inf, fit)
    return found


def _bins(gaps: Floats, centre: float) -> Ints:
    """Each gap's bin; BINS for those that lie beyond."""
    bins = np.floor((gaps - centre) / STEP + BINS / 2).astype(np.int64)
    return np.where((bins >= 0) & (bins < BINS), bins, BINS)
