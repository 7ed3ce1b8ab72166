"""Find clocks that drift or jump against the others, and correct their times.

Between clocks that run alike, the gaps of one pair of cameras are concentrated at a few transit times; a clock that
drifts smears them, and one that jumps doubles them. A change of one camera's clock is accepted where it makes the gaps
of its pairs more likely by more nats than chance gives the best of as many changes as are tried, and not the gaps of
one pair alone: a wrong clock is wrong against every other camera, while people's ways between two cameras may change.
A drift must gain as much without the pair of cameras that gains most, because chance imitates it more easily and an
uncorrected drift costs little. At least half of the gain of a jump must come from the gaps that it moves: those and the
gaps that they are moved to make each other more likely. Pairs of cameras whose gaps are no more likely than by chance,
such as cameras far apart, do not count: their noise alone is many nats.
Two people who look alike can give a camera many gaps that are wrong by the same seconds. So the crops of one pass make
one walk, all walks of one pass share one person between them, and no pass gains more than MAX_PASS_GAIN.
N sightings, W walks, P partner cameras of a camera, L shifts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.ndimage import gaussian_filter1d

from qaconv.tlift.clock_checks import ClockCorrection, correct_times
from qaconv.tlift.findings import Finding

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

STEP = 10.0  # seconds: width of a bin of gaps, and between two crops of one pass at most
MAX_PASS = 30.0  # seconds of one pass at most, where sightings follow each other without a break
MIN_PROBABILITY = 0.05  # of a pair to show one person; others are left out
MAX_WALKS = 5000  # of a camera, the likeliest; more show a change no better
MAX_JUMP = 3600.0  # seconds
MAX_LAG = int(MAX_JUMP / STEP)  # MAX_JUMP in bins
BINS = 4 * MAX_LAG  # around the median gap of a pair of cameras
DRIFTS = np.concatenate([-np.geomspace(5e-3, 4e-4, 16), np.geomspace(4e-4, 5e-3, 16)])  # half a per cent at most
BOUNDARY_STEP = 900.0  # seconds between the times at which a jump is tried
MIN_WALKS = 8  # before and after a jump
BEST_SHIFTS = (
    3  # of each boundary, whose likelihood is computed: the ways there and back may be mistaken for each other
)
MIN_CHANGE = 60.0  # seconds over all walks: less is hardly more than the difference between people's paces
MAX_PASS_GAIN = 2.0  # nats that one pass may gain or lose
FALSE_ALARMS = 0.01  # expected from chance in all changes that are tried at once
UNIFORM_SHARE = 0.1  # share of one person's gaps that are anywhere
OWN = float(gaussian_filter1d(np.eye(1, 99, 49)[0], 1.0)[49])  # what a walk adds to its own bin under the filter

Jump = tuple[float, float]  # time from which it counts, and seconds


@dataclass(frozen=True)
class _Walks:
    """Pairs of passes on two cameras, each from the pairs of their crops.

    Attributes:
        camids: of the two cameras, [2, W].
        times: means over the crops in seconds, [2, W].
        passes: numbers of the passes, [2, W].
        weight: probability that one person walked it, [W].
    """

    camids: Ints
    times: Floats
    passes: Ints
    weight: Floats


@dataclass(frozen=True)
class _CameraWalks:
    """The walks of one camera.

    Attributes:
        times: seconds on the camera's clock without corrections, [W].
        gaps: seconds from the other camera to this one, with the corrections so far, [W].
        partner: number of the other camera, 0 to P - 1, [W].
        passes: number of the pass on this camera, from 0, [W].
        weight: probability that one person walked it, [W].
        centres: median gaps, [P].
    """

    times: Floats
    gaps: Floats
    partner: Ints
    passes: Ints
    weight: Floats
    centres: Floats

    def bins(self, late: Floats | float = 0.0) -> Ints:
        """Return the bin of each gap if the camera is `late` seconds late, [W]; BINS for gaps outside the bins."""
        bins = np.floor((self.gaps - late - self.centres[self.partner]) / STEP + BINS / 2).astype(np.int64)
        return np.where((bins >= 0) & (bins < BINS), bins, BINS)

    def counts(self, bins: Ints, weight: Floats) -> Floats:
        """Return the sum of weights in each bin, [P, BINS + 1]."""
        cells = self.partner * (BINS + 1) + bins
        counts = np.bincount(cells, weight, minlength=len(self.centres) * (BINS + 1))
        return counts.astype(np.float64).reshape(-1, BINS + 1)


def find_clock_corrections(
    camids: Ints, times: Floats, first: Ints, second: Ints, likely: Floats
) -> tuple[dict[int, ClockCorrection], list[Finding]]:
    """Correct the clock that gains most, again and again until no change is accepted.

    Args:
        camids: [N].
        times: [N] seconds.
        first: one sighting of each pair, [pairs].
        second: the other sighting, on another camera, [pairs].
        likely: probability that each pair shows one person by its score alone, [pairs].

    Returns:
        The corrections by camera, and the findings in the order of their gain.
    """
    kept = likely >= MIN_PROBABILITY
    walks = _by_camera(_gather(camids, times, first[kept], second[kept], likely[kept]))
    corrections: dict[int, ClockCorrection] = {}
    findings: list[Finding] = []
    for _ in range(2 * len(np.unique(camids))):
        best = max(_proposals(walks, corrections), default=None, key=lambda proposal: proposal[0])
        if best is None:
            break
        nats, camid, drift, jump = best
        old = corrections.get(camid, ClockCorrection(origin_s=float(times[camids == camid].min())))
        jumps = sorted([*old.jumps, jump]) if jump else list(old.jumps)
        corrections[camid] = ClockCorrection(old.drift + drift, old.origin_s, jumps)
        if jump:
            detail = f"jumps by {jump[1]:+.0f} s ({nats:.0f} nats)"
            findings.append(Finding(camid, "jump", jump[0], detail, "mended"))
        else:
            detail = f"gains {100 * drift:+.3f} per cent on the other cameras ({nats:.0f} nats)"
            findings.append(Finding(camid, "drift", old.origin_s, detail, "mended"))
    return corrections, findings


def _gather(camids: Ints, times: Floats, first: Ints, second: Ints, likely: Floats) -> _Walks:
    """Join the pairs of the same two passes to one walk, as likely as the likeliest of them.

    A pass is of one person, whom the other camera has mostly seen once, so the walks of a pass share a weight of 1.
    """
    pass_of = _passes(camids, times)
    _, sample, walk = np.unique(pass_of[first] * len(pass_of) + pass_of[second], return_index=True, return_inverse=True)
    weight = np.zeros(len(sample))
    np.maximum.at(weight, walk, likely)
    total = np.bincount(walk, likely)
    means = np.stack([np.bincount(walk, likely * times[side]) / total for side in (first, second)])
    ends = np.stack([first[sample], second[sample]])
    camid, passes = camids[ends], pass_of[ends]
    other_camid = camid[::-1]
    _, group = np.unique(passes * (camid.max() + 1) + other_camid, return_inverse=True)
    shared = np.bincount(group.ravel(), np.tile(weight, 2))[group.reshape(passes.shape)]
    return _Walks(camid, means, passes, weight / np.maximum(shared.max(axis=0), 1.0))


def _passes(camids: Ints, times: Floats) -> Ints:
    """Number of each sighting's pass, [N]: sightings of a camera within STEP of the next, for MAX_PASS at most."""
    order = np.lexsort((times, camids))
    ordered = times[order]
    apart = np.concatenate([[True], (np.diff(ordered) > STEP) | (np.diff(camids[order]) != 0)])
    start = ordered[np.maximum.accumulate(np.where(apart, np.arange(len(order)), 0))]
    piece = (ordered - start) // MAX_PASS
    passes = np.empty(len(order), dtype=np.int64)
    passes[order] = np.cumsum(apart | np.concatenate([[False], np.diff(piece) != 0])) - 1
    return passes


def _by_camera(walks: _Walks) -> dict[int, _Walks]:
    """The likeliest MAX_WALKS of each camera, with its own side first."""
    by_camera = {}
    for camid in np.unique(walks.camids).tolist():
        on_camera = walks.camids == camid
        rows = np.flatnonzero(on_camera.any(axis=0))
        rows = np.sort(rows[np.argsort(-walks.weight[rows], kind="stable")[:MAX_WALKS]])
        own_side = on_camera[:, rows].argmax(axis=0)
        sides = np.stack([own_side, 1 - own_side])
        by_camera[camid] = _Walks(
            np.take_along_axis(walks.camids[:, rows], sides, axis=0),
            np.take_along_axis(walks.times[:, rows], sides, axis=0),
            np.take_along_axis(walks.passes[:, rows], sides, axis=0),
            walks.weight[rows],
        )
    return by_camera


def _proposals(
    walks_by_camera: dict[int, _Walks], corrections: dict[int, ClockCorrection]
) -> Iterator[tuple[float, int, float, Jump | None]]:
    """Yield nats, camera, drift and jump of each acceptable change."""
    for camid, walks in walks_by_camera.items():
        camera = _camera_walks(walks, corrections)
        if len(camera.times) < 2 * MIN_WALKS:
            continue
        boundaries, steps = _boundaries(camera.times)
        span = np.ptp(camera.times)
        tried = len(walks_by_camera) * (len(DRIFTS) + steps * 2 * MAX_JUMP / STEP)
        changes: list[tuple[float, Jump | None]] = [
            (float(drift), None) for drift in DRIFTS if abs(drift) * span >= MIN_CHANGE
        ]
        for boundary in boundaries:
            shifts = _shifts(camera, camera.times >= boundary)
            changes += [(0.0, (float(boundary), shift)) for shift in shifts if abs(shift) >= MIN_CHANGE]
        before = _log_likelihood(camera, 0.0)
        for drift, jump in changes:
            if jump is None:
                late = drift * (camera.times - camera.times.min())
            else:
                late = _jumped(camera.times >= jump[0], jump[1])
            gains = _limit_by_pass(camera, _log_likelihood(camera, late) - before)
            by_partner = np.bincount(camera.partner, gains)
            without_best = float(by_partner.sum() - by_partner.max())
            nats = min(float(by_partner.sum()), 2 * float(gains[late != 0].sum())) if jump else without_best
            if without_best > 0 and nats > np.log(tried / FALSE_ALARMS):
                yield nats, camid, drift, jump


def _camera_walks(walks: _Walks, corrections: dict[int, ClockCorrection]) -> _CameraWalks:
    """Apply the corrections so far to the walks of a camera."""
    own_times, other_times = (correct_times(corrections, *side) for side in zip(walks.camids, walks.times, strict=True))
    cameras, partner = np.unique(walks.camids[1], return_inverse=True)
    _, passes = np.unique(walks.passes[0], return_inverse=True)
    gaps = own_times - other_times
    centres = np.array([np.median(gaps[partner == number]) for number in range(len(cameras))])
    return _CameraWalks(walks.times[0], gaps, partner, passes, walks.weight, centres)


def _boundaries(times: Floats) -> tuple[Floats, int]:
    """Times at which a jump is tried, with enough walks before and after, and the number of steps that they cover.

    Where no walk lies between two steps, the first of them stands for both: they part the walks alike. So the work
    grows with the walks and not with the time that they span.
    """
    ordered = np.sort(times)[MIN_WALKS : len(times) - MIN_WALKS + 1]
    first, last = ordered[0], ordered[-1]
    steps = int(np.ceil((last - first) / BOUNDARY_STEP))
    width = (first + BOUNDARY_STEP) - first
    after_walks = np.floor((ordered - first) / width).astype(np.int64) + 1
    number = np.unique(np.concatenate([[0], after_walks]))
    return first + width * number[number < steps], steps


def _jumped(after: Bools, shift: float) -> Floats:
    """Seconds by which each gap moves, [W]: the fewer gaps, before or after; the others stay where chance is known."""
    late: Floats = shift * (after.astype(np.float64) - float(after.mean() > 0.5))
    return late


def _log_likelihood(camera: _CameraWalks, late: Floats | float) -> Floats:
    """Log likelihood ratio of each gap by the other gaps of its cameras, [W]; 0 for cameras without a gain."""
    bins, weight = camera.bins(late), camera.weight
    for _ in range(2):  # the second time with weights that tell walks from chance
        counts = camera.counts(bins, weight)
        density = np.zeros_like(counts)
        gaussian_filter1d(counts[:, :BINS], 1.0, axis=1, mode="constant", output=density[:, :BINS])
        others = np.maximum(density[camera.partner, bins] - OWN * weight, 0)
        others /= np.maximum(counts.sum(axis=1)[camera.partner] - weight, 1e-9)
        ratio = UNIFORM_SHARE + (1 - UNIFORM_SHARE) * others * BINS
        weight = camera.weight * ratio / (1 - camera.weight + camera.weight * ratio)
    log_ratio = np.log1p(camera.weight * (ratio - 1))
    return np.where((np.bincount(camera.partner, log_ratio) > 0)[camera.partner], log_ratio, 0.0)


def _limit_by_pass(camera: _CameraWalks, gains: Floats) -> Floats:
    """Scale the gains of each pass down to MAX_PASS_GAIN, [W]."""
    by_pass = np.bincount(camera.passes, gains)
    scale = np.clip(by_pass, -MAX_PASS_GAIN, MAX_PASS_GAIN) / np.where(by_pass == 0, 1.0, by_pass)
    return np.asarray(gains * scale[camera.passes])


def _shifts(camera: _CameraWalks, after: Bools) -> list[float]:
    """Likeliest seconds by which the later gaps are shifted against the earlier ones, over all partners together."""
    bins = camera.bins()
    early, late = (camera.counts(bins, np.where(side, camera.weight, 0.0))[:, :BINS] for side in (~after, after))
    lags = np.arange(-MAX_LAG, MAX_LAG + 1)
    size = next_fast_len(BINS + MAX_LAG, real=True)
    early_f, late_f, early_fit, late_fit = rfft([early, late, _log_ratio(early), _log_ratio(late)], size)
    fit = irfft((late_f * early_fit.conj() + late_fit * early_f.conj()).sum(axis=0), size)[lags]
    shifts: list[float] = []
    while len(shifts) < BEST_SHIFTS:
        shifts.append(float(STEP * lags[np.argmax(fit)]))
        fit = np.where(np.abs(STEP * lags - shifts[-1]) <= MIN_CHANGE, -np.inf, fit)
    return shifts


def _log_ratio(counts: Floats) -> Floats:
    """Log likelihood ratio to chance of each bin, [P, BINS]; 0 for empty bins."""
    density = gaussian_filter1d(counts, 1.0, axis=1, mode="constant") / np.maximum(counts.sum(axis=1), 1e-9)[:, None]
    log_ratio: Floats = np.log1p((1 / UNIFORM_SHARE - 1) * density * BINS)
    return log_ratio
