"""Pairs that may show one person go in; clocks that drift or jump against the others come out, with how to read them.

Where two clocks run alike, the gaps of one pair of cameras lie at a few walking times; a clock that drifts smears
them, and one that jumps doubles them. A change of one camera's clock is accepted where it concentrates the gaps of its
pairs by more nats than chance gives the best of as many changes as were tried, and not those of one pair alone: a clock
that is wrong is wrong against every other camera, while one pair may change its ways at noon. Drift must gain as much
without the pair that gains most: chance imitates it more readily, and unmended it costs next to nothing.
Half of what a jump gains must be of the gaps it moves: they and those they come to lie among make each other likely.
Pairs whose gaps tell no more than chance, as those of cameras far apart, say nothing: their noise alone is many nats.
Two people who look alike can give a camera many gaps that are wrong by the same seconds. So crops of one pass make one
walk, all walks that may be one pass's share one person between them, and no pass gains more than MOST_OF_A_PASS.
W walks, P partners of a camera, L shifts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.ndimage import gaussian_filter1d

from qaconv.tlift.clock_checks import ClockMend, Finding, mend_times

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

STEP = 10.0  # seconds: gaps are counted in bins so wide, and crops so close are of one pass ...
LONGEST_PASS = 30.0  # seconds: ... but where there is always somebody, no pass is longer
LEAST_LIKELY = 0.05  # pairs that are less likely to show one person are not looked at
MOST_WALKS = 5000  # of a camera, its likeliest: as many show any change
REACH = 3600.0  # seconds: the farthest jump that is looked for
FARTHEST = int(REACH / STEP)  # the same in bins
BINS = 4 * FARTHEST  # around the median gap of a pair
DRIFTS = np.concatenate([-np.geomspace(5e-3, 4e-4, 16), np.geomspace(4e-4, 5e-3, 16)])  # half a per cent at most
BOUNDARIES_PER_HOUR = 4
FEWEST_WALKS = 8  # on either side of a jump
BEST_SHIFTS = 3  # of each boundary, that are looked at closely: the way there and back may pass for one another
LEAST_CHANGE = 60.0  # seconds, in the end: less is hardly more than what paces differ by
MOST_OF_A_PASS = 2.0  # nats that one pass may gain or lose
FALSE_ALARMS = 0.01  # that chance alone may give, in all that is tried at once
FLOOR = 0.1  # share of one person's gaps that lie anywhere
OWN = float(gaussian_filter1d(np.eye(1, 99, 49)[0], 1.0)[49])  # what a walk adds to its own bin under the filter


@dataclass(frozen=True)
class _Walks:
    """Pairs that crops of one pass on either camera make, taken together.

    Attributes:
        camids: [2, W], of the two cameras.
        times: [2, W] seconds, the means of the crops.
        passes: [2, W] numbers.
        weight: [W], how likely one person walked it.
    """

    camids: Ints
    times: Floats
    passes: Ints
    weight: Floats


@dataclass(frozen=True)
class _Seen:
    """The walks of one camera, as it sees them.

    Attributes:
        at: [W] seconds on its clock as it is.
        gaps: [W] seconds from the other camera to it, by clocks as far as they are mended.
        partner: [W], 0 to P - 1.
        passes: [W], 0 and up, on this camera.
        weight: [W].
        centres: [P], the median gaps.
    """

    at: Floats
    gaps: Floats
    partner: Ints
    passes: Ints
    weight: Floats
    centres: Floats

    def bins(self, late: Floats | float = 0.0) -> Ints:
        """[W]: each gap's bin were the camera `late` seconds late; BINS for those that lie beyond."""
        bins = np.floor((self.gaps - late - self.centres[self.partner]) / STEP + BINS / 2).astype(np.int64)
        return np.where((bins >= 0) & (bins < BINS), bins, BINS)

    def counts(self, bins: Ints, weight: Floats) -> Floats:
        """[P, BINS + 1]."""
        at = self.partner * (BINS + 1) + bins
        counted = np.bincount(at, weight, minlength=len(self.centres) * (BINS + 1))
        return counted.astype(np.float64).reshape(-1, BINS + 1)


def mend_clocks(
    camids: Ints, times: Floats, first: Ints, second: Ints, likely: Floats
) -> tuple[dict[int, ClockMend], list[Finding]]:
    """Reads the pairs again and again, each time mending what concentrates them most.

    Args:
        camids: [N].
        times: [N] seconds.
        first: [pairs], one sighting of each pair.
        second: [pairs], the other, on another camera.
        likely: [pairs] in [0, 1], how likely each shows one person by its score alone.

    Returns:
        How to read the clocks that need it, and what was found, in the order of their weight.
    """
    looked = likely >= LEAST_LIKELY
    walks = _by_camera(_gather(camids, times, first[looked], second[looked], likely[looked]))
    mends: dict[int, ClockMend] = {}
    findings: list[Finding] = []
    for _ in range(2 * len(np.unique(camids))):
        best = max(_proposals(walks, mends), default=None, key=lambda found: found[0])
        if best is None:
            break
        nats, camid, drift, jump = best
        old = mends.get(camid, ClockMend(origin_s=float(times[camids == camid].min())))
        jumps = sorted([*old.jumps, jump]) if jump else list(old.jumps)
        mends[camid] = ClockMend(old.drift + drift, old.origin_s, jumps)
        detail = (
            f"jumps by {jump[1]:+.0f} s" if jump else f"gains {100 * drift:+.3f} per cent on the other cameras"
        ) + f" ({nats:.0f} nats)"
        kind, since = ("jump", jump[0]) if jump else ("drift", old.origin_s)
        findings.append(Finding(camid, kind, since, detail, "mended"))
    return mends, findings


def _gather(camids: Ints, times: Floats, first: Ints, second: Ints, likely: Floats) -> _Walks:
    """One walk from pairs whose crops are of the same passes, as likely as the likeliest of them.

    A pass is of one person, whom the other camera has mostly seen once: no more than that is shared out.
    """
    of = _passes(camids, times)
    _, some, walk = np.unique(of[first] * len(of) + of[second], return_index=True, return_inverse=True)
    weight = np.zeros(len(some))
    np.maximum.at(weight, walk, likely)
    total = np.bincount(walk, likely)
    means = np.stack([np.bincount(walk, likely * times[side]) / total for side in (first, second)])
    camid, passes = (each[np.stack([first[some], second[some]])] for each in (camids, of))
    others = camid[::-1]
    _, seen = np.unique(passes * (camids.max() + 1) + others, return_inverse=True)
    shared = np.bincount(seen.ravel(), np.tile(weight, 2))[seen.reshape(passes.shape)]
    return _Walks(camid, means, passes, weight / np.maximum(shared.max(axis=0), 1.0))


def _passes(camids: Ints, times: Floats) -> Ints:
    """[N]: sightings of one camera that follow each other within STEP, for LONGEST_PASS at most."""
    order = np.lexsort((times, camids))
    ordered = times[order]
    apart = np.concatenate([[True], (np.diff(ordered) > STEP) | (np.diff(camids[order]) != 0)])
    start = ordered[np.maximum.accumulate(np.where(apart, np.arange(len(order)), 0))]
    piece = (ordered - start) // LONGEST_PASS
    passes = np.empty(len(order), dtype=np.int64)
    passes[order] = np.cumsum(apart | np.concatenate([[False], np.diff(piece) != 0])) - 1
    return passes


def _by_camera(walks: _Walks) -> dict[int, _Walks]:
    """The likeliest MOST_WALKS of each camera, its own side first."""
    found = {}
    for camid in np.unique(walks.camids).tolist():
        own = walks.camids == camid
        mine = np.flatnonzero(own.any(axis=0))
        mine = np.sort(mine[np.argsort(-walks.weight[mine], kind="stable")[:MOST_WALKS]])
        here = own[:, mine].argmax(axis=0)
        sides = np.stack([here, 1 - here])
        found[camid] = _Walks(
            np.take_along_axis(walks.camids[:, mine], sides, axis=0),
            np.take_along_axis(walks.times[:, mine], sides, axis=0),
            np.take_along_axis(walks.passes[:, mine], sides, axis=0),
            walks.weight[mine],
        )
    return found


def _proposals(
    walks: dict[int, _Walks], mends: dict[int, ClockMend]
) -> Iterator[tuple[float, int, float, tuple[float, float] | None]]:
    """Nats, camera, drift and jump of what would concentrate one camera's gaps enough, seen from that camera."""
    for camid, own in walks.items():
        seen = _see(own, mends)
        if len(seen.at) < 2 * FEWEST_WALKS:
            continue
        boundaries, span = _boundaries(seen.at), np.ptp(seen.at)
        tried = len(walks) * (len(DRIFTS) + len(boundaries) * 2 * REACH / STEP)
        changes: list[tuple[float, tuple[float, float] | None]] = [
            (float(drift), None) for drift in DRIFTS if abs(drift) * span >= LEAST_CHANGE
        ]
        for boundary in boundaries:
            shifts = _shifts(seen, seen.at >= boundary)
            changes += [(0.0, (float(boundary), shift)) for shift in shifts if abs(shift) >= LEAST_CHANGE]
        before = _log_likelihood(seen, 0.0)
        for drift, jump in changes:
            late = drift * (seen.at - seen.at.min()) if jump is None else _jumped(seen.at >= jump[0], jump[1])
            gains = _bounded(seen, _log_likelihood(seen, late) - before)
            by_partner = np.bincount(seen.partner, gains)
            others = float(by_partner.sum() - by_partner.max())
            nats = min(float(by_partner.sum()), 2 * float(gains[late != 0].sum())) if jump else others
            if others > 0 and nats > np.log(tried / FALSE_ALARMS):
                yield nats, camid, drift, jump


def _see(walks: _Walks, mends: dict[int, ClockMend]) -> _Seen:
    """What one of `_by_camera` shows with clocks as far as they are mended."""
    here, there = (mend_times(mends, *side) for side in zip(walks.camids, walks.times, strict=True))
    cameras, partner = np.unique(walks.camids[1], return_inverse=True)
    _, passes = np.unique(walks.passes[0], return_inverse=True)
    gaps = here - there
    centres = np.array([np.median(gaps[partner == number]) for number in range(len(cameras))])
    return _Seen(walks.times[0], gaps, partner, passes, walks.weight, centres)


def _boundaries(at: Floats) -> Floats:
    """Where a jump may lie: between walks, with enough of them on both sides."""
    ordered = np.sort(at)
    return np.arange(ordered[FEWEST_WALKS], ordered[-FEWEST_WALKS], 3600.0 / BOUNDARIES_PER_HOUR)


def _jumped(after: Bools, shift: float) -> Floats:
    """[W] seconds, moving the fewer gaps, before or after: the many stay where they are among those of chance."""
    return shift * (after.astype(np.float64) - float(after.mean() > 0.5))


def _log_likelihood(seen: _Seen, late: Floats | float) -> Floats:
    """[W]: of each gap against chance, by the others of its two cameras; 0 where these tell no more than chance."""
    bins, weight = seen.bins(late), seen.weight
    for _ in range(2):  # the first time tells walks from chance
        counts = seen.counts(bins, weight)
        density = gaussian_filter1d(counts[:, :BINS], 1.0, axis=1, mode="constant")
        others = np.maximum(np.pad(density, ((0, 0), (0, 1)))[seen.partner, bins] - OWN * weight, 0)
        others /= np.maximum(counts.sum(axis=1)[seen.partner] - weight, 1e-9)
        ratio = FLOOR + (1 - FLOOR) * others * BINS
        weight = seen.weight * ratio / (1 - seen.weight + seen.weight * ratio)
    found = np.log1p(seen.weight * (ratio - 1))
    return np.where((np.bincount(seen.partner, found) > 0)[seen.partner], found, 0.0)


def _bounded(seen: _Seen, gains: Floats) -> Floats:
    """[W]: gains, those of a pass made smaller together where they are more than one pass may have."""
    of_pass = np.bincount(seen.passes, gains)
    bounded = np.clip(of_pass, -MOST_OF_A_PASS, MOST_OF_A_PASS) / np.where(of_pass == 0, 1.0, of_pass)
    return np.asarray(gains * bounded[seen.passes])


def _shifts(seen: _Seen, after: Bools) -> list[float]:
    """Seconds by which the later gaps may lie beyond the earlier ones, over all partners together; likeliest first."""
    bins = seen.bins()
    early, late = (seen.counts(bins, np.where(side, seen.weight, 0.0))[:, :BINS] for side in (~after, after))
    lags = np.arange(-FARTHEST, FARTHEST + 1)
    size = next_fast_len(BINS + FARTHEST, real=True)
    before, behind, fits_before, fits_behind = rfft([early, late, _log_ratio(early), _log_ratio(late)], size)
    fit = irfft((behind * fits_before.conj() + fits_behind * before.conj()).sum(axis=0), size)[lags]
    found: list[float] = []
    while len(found) < BEST_SHIFTS:
        found.append(float(STEP * lags[np.argmax(fit)]))
        fit = np.where(np.abs(STEP * lags - found[-1]) <= LEAST_CHANGE, -np.inf, fit)
    return found


def _log_ratio(counts: Floats) -> Floats:
    """[P, BINS], 0 where nothing was seen."""
    density = gaussian_filter1d(counts, 1.0, axis=1, mode="constant") / np.maximum(counts.sum(axis=1), 1e-9)[:, None]
    return np.log1p((1 / FLOOR - 1) * density * BINS)
