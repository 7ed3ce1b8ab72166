"""Compare new sightings of a target with those that a model was chosen on, as that model sees them.

N sightings of one window, M mutual best matches among them on two cameras.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import ks_2samp

from qaconv.config.operation import DriftConfig
from qaconv.runtime.crops import read_crop_file
from qaconv.runtime.limits import LARGEST_CAMID
from qaconv.times import check_seconds
from qaconv.tlift import TLiftProfile
from qaconv.tlift.clock_checks import check_clocks, correct_times

SIGNIFICANT = 0.01  # p-value from which a change of scores may be chance
CLOCK_FAULTS = ("missing", "impossible", "unit", "gap")  # findings that times alone show, however few sightings


class Model(Protocol):
    """The part of `ServedModel` that drift is measured with."""

    @property
    def crop_size(self) -> tuple[int, int]: ...

    def encode_batches(self, crops: Iterable[NDArray[np.uint8]], camids: NDArray[np.int64]) -> NDArray[np.float32]: ...

    def score(self, query_maps: NDArray[np.float32], gallery_maps: NDArray[np.float32]) -> NDArray[np.float32]: ...

    def probability(self, logits: NDArray[np.float32]) -> NDArray[np.float64]: ...


@dataclass(frozen=True)
class Drift:
    """One way in which new sightings differ from the old.

    Attributes:
        kind: what has changed.
        detail: by how much, and how much is allowed.
    """

    kind: Literal["scores", "matches", "cameras", "clocks", "transits"]
    detail: str


@dataclass(frozen=True)
class Window:
    """Sightings of a period, matched among themselves.

    Attributes:
        camids: camera of each sighting, [N].
        times: seconds on the camera's clock, NaN where unknown, [N].
        best: logit of each sighting's best match on another camera, [N]; -inf where there is no other camera.
        likely: whether that match is more likely than not, [N].
        gains: nats that their times add to the log odds of likely matches, [M]; empty where times are not used.
    """

    camids: NDArray[np.int64]
    times: NDArray[np.float64]
    best: NDArray[np.float64]
    likely: NDArray[np.bool_]
    gains: NDArray[np.float64]


def number_cameras(cameras: pd.Series, profile: TLiftProfile | None) -> tuple[pd.Series, dict[int, str]]:
    """Number cameras as a profile does.

    Args:
        cameras: number or name of each sighting's camera, as text, [N].
        profile: of the target. None: it has none.

    Returns:
        Numbers, [N], and the name or number of each camera by it. A name that the profile lacks has a number above
        those of all cameras.
    """
    numbers: dict[str, int] = {}
    for camera in sorted(cameras.unique()):
        camid = profile.camid_of(camera) if profile else None
        is_number = camera.isdecimal() and not (profile and profile.cameras)
        if camid is None:
            camid = int(camera) if is_number else LARGEST_CAMID + 1 + len(numbers)
        numbers[camera] = camid
    return cameras.map(numbers), {camid: camera for camera, camid in numbers.items()}


def find_drifts(
    before: Window,
    since: Window,
    profile: TLiftProfile | None,
    rules: DriftConfig,
    cameras: Mapping[int, str] | None = None,
) -> list[Drift]:
    """List every difference that `drift` in params.yaml does not allow; none where a window has too few sightings.

    Args:
        before: sightings that the model was chosen on.
        since: new ones.
        profile: temporal profile of the target. None: it has none.
        rules: differences that are allowed, and the fewest sightings.
        cameras: name of each camera by its number in the windows. Default: they have none.
    """
    if min(len(before.best), len(since.best)) < rules.fewest:
        return []
    names = {**(profile.cameras if profile else {}), **(cameras or {})}
    return [
        *_scores(before, since, rules),
        *_cameras(before, since, profile, rules, names),
        *_clocks(before, since, names),
        *_transits(before, since, rules),
    ]


def match_window(model: Model, profile: TLiftProfile | None, sightings: pd.DataFrame, root: Path) -> Window:
    """Match sightings of a period among themselves.

    Args:
        model: the champion.
        profile: its temporal profile of the target. None: it has none.
        sightings: table with the columns image, camid and time_s.
        root: folder that `image` is relative to.

    Raises:
        InputError: a time cannot be seconds, or an image cannot be read.
    """
    camids = sightings["camid"].to_numpy(np.int64)
    times = sightings["time_s"].to_numpy(np.float64)
    check_seconds(f"{root}: time_s", times)
    crops = (read_crop_file(root / image, *model.crop_size) for image in sightings["image"])
    maps = model.encode_batches(crops, camids)
    logits = np.where(camids[:, None] == camids, -np.inf, model.score(maps, maps))
    best, partner = logits.max(axis=1), logits.argmax(axis=1)
    likely = _probabilities(model, profile, logits, camids, times)[np.arange(len(best)), partner] >= 0.5
    mutual = partner[partner] == np.arange(len(best))
    first = np.flatnonzero(mutual & (camids < camids[partner]) & likely)
    gains = _gains(profile, camids, times, first, partner[first]) if profile and profile.active else np.empty(0)
    return Window(camids, times, best, likely, gains)


def _probabilities(
    model: Model,
    profile: TLiftProfile | None,
    logits: NDArray[np.float32],
    camids: NDArray[np.int64],
    times: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the probability of each pair, [N, N]: the target's, or at even odds where its profile states none."""
    if profile is None:
        return model.probability(logits)
    where = profile.leave_out_unknown(camids, times)
    stated = profile.probabilities(expit(logits.astype(np.float64)), *where, *where)
    return model.probability(logits) if stated is None else stated


def _gains(
    profile: TLiftProfile,
    camids: NDArray[np.int64],
    times: NDArray[np.float64],
    first: NDArray[np.intp],
    second: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Return the log likelihood ratio of each match's gap, [M], without matches whose time is unknown.

    Args:
        profile: the target's.
        camids: [N].
        times: [N] seconds.
        first: rows of the sightings on the camera of the lower number.
        second: rows of their partners.
    """
    pair_numbers = {pair: number for number, pair in enumerate(combinations(sorted(profile.camids), 2))}
    later = correct_times(profile.clocks, camids[second], times[second])
    earlier = correct_times(profile.clocks, camids[first], times[first])
    gaps = np.subtract(later, earlier)
    pairs = [pair_numbers.get((int(low), int(high))) for low, high in zip(camids[first], camids[second], strict=True)]
    known = [(pair, gap) for pair, gap in zip(pairs, gaps, strict=True) if pair is not None and np.isfinite(gap)]
    return np.array([profile.transit(pair, np.array([gap]))[0] for pair, gap in known])


def _scores(before: Window, since: Window, rules: DriftConfig) -> Iterator[Drift]:
    change = ks_2samp(before.best, since.best)
    if change.statistic > rules.max_score_change and change.pvalue < SIGNIFICANT:
        detail = (
            f"best scores have another distribution: median {np.median(since.best):.2f}, {np.median(before.best):.2f} "
            f"before; the distance must be at most {rules.max_score_change:g}, got {change.statistic:.2f}"
        )
        yield Drift("scores", detail)
    now, then = since.likely.mean(), before.likely.mean()
    if then - now > rules.max_confident_drop:
        detail = (
            f"{now:.0%} of the sightings have a likely match on another camera, {then:.0%} before; "
            f"a drop of at most {rules.max_confident_drop:.0%} is allowed"
        )
        yield Drift("matches", detail)


def _cameras(
    before: Window, since: Window, profile: TLiftProfile | None, rules: DriftConfig, names: Mapping[int, str]
) -> Iterator[Drift]:
    if profile and (unknown := sorted({*since.camids.tolist()} - {*profile.camids})):
        missing, known = (
            ", ".join(names.get(camid, str(camid)) for camid in camids) for camids in (unknown, profile.camids)
        )
        yield Drift("cameras", f"cameras [{missing}] are not in the profile, which has [{known}]")
    for camid in np.union1d(before.camids, since.camids):
        now, then = (float((window.camids == camid).mean()) for window in (since, before))
        if abs(now - then) > rules.max_share_change:
            detail = f"camera {names.get(camid, camid)} has {now:.0%} of the sightings, {then:.0%} before"
            yield Drift("cameras", f"{detail}; a change of at most {rules.max_share_change:.0%} is allowed")


def _clocks(before: Window, since: Window, names: Mapping[int, str]) -> Iterator[Drift]:
    """Yield the faults of a clock that it did not have before."""
    known = {(finding.camid, finding.kind) for finding in check_clocks(before.camids, before.times)[0]}
    for finding in check_clocks(since.camids, since.times)[0]:
        if finding.kind in CLOCK_FAULTS and (finding.camid, finding.kind) not in known:
            camera = names.get(finding.camid, finding.camid)
            yield Drift("clocks", f"camera {camera}, {finding.kind}: {finding.detail}")


def _transits(before: Window, since: Window, rules: DriftConfig) -> Iterator[Drift]:
    if not len(before.gains) or not len(since.gains) or (then := float(before.gains.mean())) <= 0:
        return
    now = float(since.gains.mean())
    if now < rules.min_transit_gain * then:
        detail = f"matches gain {now:.2f} nats from their times, {then:.2f} before"
        yield Drift("transits", f"{detail}; they must gain at least {rules.min_transit_gain:.0%} of that")
