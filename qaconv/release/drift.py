"""Sightings from before and since a model was chosen go in; how they differ, as that model sees them, comes out.

N sightings of one window, M mutual best matches among them on two cameras.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from qaconv.config import DriftConfig
from qaconv.runtime.crops import read_crop
from qaconv.runtime.model import ServedModel
from qaconv.tlift import TLiftProfile
from qaconv.tlift.clock_checks import check_clocks, correct_times

BATCH = 32  # crops encoded at a time
SIGNIFICANT = 0.01  # a change of scores that chance gives more often is none
CLOCK_FAULTS = ("missing", "impossible", "unit", "gap")  # what times alone show; few sightings are no fault


@dataclass(frozen=True)
class Drift:
    """One way in which new sightings are unlike the old; `found` says by how much, and what is allowed."""

    kind: Literal["scores", "matches", "cameras", "clocks", "transits"]
    found: str


@dataclass(frozen=True)
class Window:
    """What the model makes of some sightings among themselves.

    Attributes:
        camids: [N].
        times: [N] seconds, NaN where unknown.
        best: [N], logit of each one's best match on another camera; -inf where there is no other.
        likely: [N], whether that match is more likely than not.
        gains: [M], what their times add to the log odds of likely matches; none where times are not used.
    """

    camids: NDArray[np.int64]
    times: NDArray[np.float64]
    best: NDArray[np.float64]
    likely: NDArray[np.bool_]
    gains: NDArray[np.float64]


def find_drifts(before: Window, since: Window, profile: TLiftProfile | None, rules: DriftConfig) -> list[Drift]:
    """Every difference that params.yaml's `drift` does not allow; none where either window has too few sightings."""
    if min(len(before.best), len(since.best)) < rules.fewest:
        return []
    return [
        *_scores(before, since, rules),
        *_cameras(before, since, profile, rules),
        *_clocks(before, since),
        *_transits(before, since, rules),
    ]


def look(model: ServedModel, profile: TLiftProfile | None, sightings: pd.DataFrame, root: Path) -> Window:
    """Matches sightings among themselves.

    Args:
        model: the champion.
        profile: its temporal profile of this target, if it has one.
        sightings: rows with image, camid and time_s.
        root: the folder that `image` is relative to.

    Raises:
        InputError: an image cannot be read.
    """
    camids, times = sightings["camid"].to_numpy(np.int64), sightings["time_s"].to_numpy(np.float64)
    crops = (read_crop((root / image).read_bytes(), *model.crop_size) for image in sightings["image"])
    maps = np.concatenate([model.encode(np.stack(batch)) for batch in _batches(list(crops))])
    logits = np.where(camids[:, None] == camids, -np.inf, model.score(maps, maps))
    best, partner = logits.max(axis=1), logits.argmax(axis=1)
    likely = model.probability(best) >= 0.5
    first = np.flatnonzero((partner[partner] == np.arange(len(best))) & (camids < camids[partner]) & likely)
    gains = _gains(profile, camids, times, first, partner[first]) if profile and profile.active else np.empty(0)
    return Window(camids, times, best, likely, gains)


def _batches(crops: list[NDArray[np.uint8]]) -> Iterator[list[NDArray[np.uint8]]]:
    return (crops[start : start + BATCH] for start in range(0, len(crops), BATCH))


def _gains(
    profile: TLiftProfile,
    camids: NDArray[np.int64],
    times: NDArray[np.float64],
    first: NDArray[np.intp],
    second: NDArray[np.intp],
) -> NDArray[np.float64]:
    """[M]: log likelihood ratio of each match's gap; `first` is on the lower camera. What has no time is left out."""
    number = {pair: at for at, pair in enumerate(combinations(sorted(profile.camids), 2))}
    gaps = np.subtract(*(correct_times(profile.clocks, camids[of], times[of]) for of in (second, first)))
    pairs = [number.get((int(a), int(b))) for a, b in zip(camids[first], camids[second], strict=True)]
    known = [(pair, gap) for pair, gap in zip(pairs, gaps, strict=True) if pair is not None and np.isfinite(gap)]
    return np.array([profile.transit(pair, np.array([gap]))[0] for pair, gap in known])


def _scores(before: Window, since: Window, rules: DriftConfig) -> Iterator[Drift]:
    change = ks_2samp(before.best, since.best)
    if change.statistic > rules.max_score_change and change.pvalue < SIGNIFICANT:
        found = (
            f"best scores are distributed otherwise: median {np.median(since.best):.2f}, {np.median(before.best):.2f} "
            f"before; a distance of at most {rules.max_score_change:g} is allowed, and it is {change.statistic:.2f}"
        )
        yield Drift("scores", found)
    now, then = since.likely.mean(), before.likely.mean()
    if then - now > rules.max_confident_drop:
        found = (
            f"{now:.0%} of the sightings have a likely match on another camera, {then:.0%} before; "
            f"a drop of at most {rules.max_confident_drop:.0%} is allowed"
        )
        yield Drift("matches", found)


def _cameras(before: Window, since: Window, profile: TLiftProfile | None, rules: DriftConfig) -> Iterator[Drift]:
    if profile and (unknown := sorted({*since.camids.tolist()} - {*profile.camids})):
        yield Drift("cameras", f"cameras {unknown} are not in the profile, which has {list(profile.camids)}")
    for camid in np.union1d(before.camids, since.camids):
        now, then = (float((window.camids == camid).mean()) for window in (since, before))
        if abs(now - then) > rules.max_share_change:
            found = f"camera {camid} has {now:.0%} of the sightings, {then:.0%} before"
            yield Drift("cameras", f"{found}; a change of at most {rules.max_share_change:.0%} is allowed")


def _clocks(before: Window, since: Window) -> Iterator[Drift]:
    """Faults of a clock that it did not have before."""
    known = {(finding.camid, finding.kind) for finding in check_clocks(before.camids, before.times)[0]}
    for finding in check_clocks(since.camids, since.times)[0]:
        if finding.kind in CLOCK_FAULTS and (finding.camid, finding.kind) not in known:
            yield Drift("clocks", f"camera {finding.camid}, {finding.kind}: {finding.detail}")


def _transits(before: Window, since: Window, rules: DriftConfig) -> Iterator[Drift]:
    if not len(before.gains) or not len(since.gains) or (then := float(before.gains.mean())) <= 0:
        return
    now = float(since.gains.mean())
    if now < rules.min_transit_gain * then:
        found = f"matches gain {now:.2f} nats from their times, {then:.2f} before"
        yield Drift("transits", f"{found}; at least {rules.min_transit_gain:.0%} of it is asked for")
