"""Print the tables of docs/tlift.md."""

import resource
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.demo import labelled_targets, require_outputs
from benchmarks.lifting.sites import RANKINGS, Site, best_of_grid, lifted, load_site, paper
from benchmarks.lifting.walks import Crowd, Day, crowd, two_days
from qaconv.config import load_params
from qaconv.paths import MATCHES, PREPARED, RERANKED, TLIFT
from qaconv.tlift import TLiftProfile

Row = tuple[object, ...]
TRIALS = range(51, 61)  # seeds


def sites() -> Iterator[Row]:
    """mAP without lift, by the paper, fitted, best by labels, share of that gain; * without same-camera images."""
    yield "site", "model", "ranking", "none", "paper", "fitted", "best", "share %", "none*", "paper*", "fitted*"
    for name in labelled_targets():
        for method in load_params().method_names:
            site = load_site(name, method)
            profile = site.fit()
            for ranking in RANKINGS:
                tables = site.table(ranking), paper(site, ranking), lifted(site, profile, ranking)
                none, of_paper, fitted = map(site.measure, tables)
                best, _ = best_of_grid(site, profile, ranking)
                apart = [site.measure(table, same_camera=False) for table in tables]
                share = 100 * (fitted - none) / (best - none)
                yield name, method, ranking, none, of_paper, fitted, best, share, *apart


def clocks() -> Iterator[Row]:
    """Cost of wrong clocks: mAP of direct scores, and the findings of the profile."""
    yield "site", "clocks", "none", "fitted", "used", "findings"
    for name in labelled_targets():
        site = load_site(name, "qaconv")
        for title, times in _disturbed(site):
            profile = site.fit(times)
            findings = "; ".join(
                f"camera {finding.camid} {finding.detail}"
                + ("" if finding.time_s is None else f" at {finding.time_s:.0f} s")
                for finding in profile.findings
            )
            after = site.measure(lifted(site, profile, "direct", times))
            yield name, title, site.measure(site.table("direct")), after, str(profile.active), findings


def _disturbed(site: Site) -> Iterator[tuple[str, NDArray[np.float64]]]:
    rng, camids, times = np.random.default_rng(0), site.camids, site.times
    permuted = times.copy()
    for camid in np.unique(camids):
        rows = np.flatnonzero(camids == camid)
        permuted[rows] = times[rng.permutation(rows)]
    yield "unchanged", times
    yield "times permuted", permuted
    yield "offset 1000 s a camera", times + 1000.0 * camids
    yield "camera 2 drifts 0.2 %", np.where(camids == 2, times * 1.002, times)
    yield "camera 2 jumps 600 s at 14400 s", times + 600.0 * ((camids == 2) & (times >= 14400))


def trials() -> Iterator[Row]:
    """Simulated networks with one wrong clock: how often it is found, and how often something else."""
    yield "network", "clocks", "networks", "found", "something else found"
    networks: dict[str, Callable[[int], Day | Crowd]] = {
        "5 cameras, 240 people": lambda seed: two_days(seed)[0],
        "24 cameras, 850 people": lambda seed: crowd(seed, cameras=24, people=850),
    }
    for network, draw in networks.items():
        drawn = [draw(seed) for seed in TRIALS]
        for clocks in ("sound", "jump", "drift 0.2 %", "drift 0.5 %"):
            found = [_tried(day, clocks, seed) for seed, day in zip(TRIALS, drawn, strict=True)]
            right, wrong = (sum(each) for each in zip(*found, strict=True))
            yield network, clocks, len(drawn), "" if clocks == "sound" else right, wrong


def _tried(day: Day | Crowd, clocks: str, seed: int) -> tuple[bool, bool]:
    """Whether the change of one clock was found, and whether anything else was; a jump within an hour and a minute."""
    rng = np.random.default_rng(seed)
    camid, jump_s = int(rng.integers(0, 5)), np.quantile(day.times, rng.uniform(0.3, 0.7))
    shift, on_camera = rng.choice([-1, 1]) * rng.uniform(120, 1500), day.camids == camid
    changed = {
        "sound": day.times,
        "jump": day.times + shift * (on_camera & (day.times > jump_s)),
        "drift 0.2 %": day.times * (1 + 0.002 * on_camera),
        "drift 0.5 %": day.times * (1 + 0.005 * on_camera),
    }
    profile = day.fit(changed[clocks])
    correction = profile.clocks.get(camid)
    found = correction is not None and clocks != "sound"
    if correction is not None and clocks == "jump":
        found = any(abs(start - jump_s) <= 3600 and abs(by - shift) <= 60 for start, by in correction.jumps)
    return found, len(profile.clocks) > found


def days() -> Iterator[Row]:
    """Simulated walks of two days: mAP of the second day, lifted by each day's profile."""
    yield "seed", "none", "fitted that day", "fitted the day before", "share %"
    for seed in range(31, 46):
        before, day = two_days(seed)
        same_day, day_before = (day.measure(day.lift(profile)) for profile in (day.fit(), before.fit()))
        none = day.measure(day.table)
        yield seed, none, same_day, day_before, 100 * (day_before - none) / (same_day - none)


def real() -> Iterator[Row]:
    """Market-1501 or another network of real people, matched in this folder; * without same-camera images."""
    yield "target", "model", "ranking", "none", "paper", "fitted", "none*", "paper*", "fitted*", "fitted - paper"
    for name in labelled_targets():
        for method in load_params().method_names:
            site = load_site(name, method)
            profile = TLiftProfile.load(TLIFT / name / f"{method}.json", model=site.matches.model)
            for ranking in RANKINGS:
                rows = []
                for table in (site.table(ranking), paper(site, ranking), lifted(site, profile, ranking)):
                    rows.append((site.measure(table), site.measure(table, same_camera=False)))
                kept, apart = zip(*rows, strict=True)
                yield name, method, ranking, *kept, *apart, kept[2] - kept[1]


def scale() -> Iterator[Row]:
    """A million sightings on fifty cameras, ten neighbours each."""
    yield "sightings", "cameras", "seconds", "peak GB", "gain, nats", "control, nats"
    million = crowd(seed=1, cameras=50, people=70_000, sightings=1_000_000)
    start = time.perf_counter()
    profile = million.fit()
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    evidence = profile.evidence
    yield len(million.times), len(profile.camids), seconds, peak, evidence["gain_nats"], max(evidence["control_nats"])


PARTS: dict[str, Callable[[], Iterator[Row]]] = {
    "sites": sites,
    "clocks": clocks,
    "trials": trials,
    "days": days,
    "scale": scale,
    "real": real,
}

OF_THE_DEMO = tuple(PARTS)[:-1]
ON_TARGETS = {"sites", "clocks", "real"}
OUTPUTS = (PREPARED, MATCHES, RERANKED, TLIFT)  # of each target, which those parts need


def main(parts: list[str]) -> None:
    """Print a table for each part."""
    if unknown := [part for part in parts if part not in PARTS]:
        sys.exit(f"refused: unknown part {', '.join(unknown)}, allowed: {', '.join(PARTS)}")
    parts = parts or list(OF_THE_DEMO)
    if set(parts) & ON_TARGETS:
        require_outputs(folder / name for name in labelled_targets() for folder in OUTPUTS)
    for part in parts:
        head, *rows = PARTS[part]()
        table = Table(*map(str, head), title=f"{part}: {PARTS[part].__doc__}", title_justify="left")
        for row in rows:
            table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in row))
        Console(width=160).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
