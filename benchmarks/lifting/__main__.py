"""Names of parts go in; their tables are printed, as docs/tlift.md has them."""

import resource
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.lifting.sites import RANKINGS, Site, best_of_grid, lifted, load_site, paper
from benchmarks.lifting.walks import million_sightings, two_days
from qaconv.config import METHODS, load_params
from qaconv.stages.places import TLIFT
from qaconv.tlift import TLiftProfile

Row = tuple[object, ...]


def sites() -> Iterator[Row]:
    """mAP unlifted, by the paper, fitted, best by labels, share of that gain; * without same-camera images."""
    yield "site", "model", "ranking", "none", "paper", "fitted", "best", "share %", "none*", "paper*", "fitted*"
    for name in load_params().deployments:
        for method in METHODS:
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
    """What clocks out of order cost: mAP of direct scores, and what the profile says."""
    yield "site", "clocks", "none", "fitted", "used", "findings"
    for name in load_params().deployments:
        site = load_site(name, "qaconv")
        for title, times in _disturbed(site):
            profile = site.fit(times)
            found = "; ".join(
                f"camera {each.camid} {each.detail}" + ("" if each.time_s is None else f" at {each.time_s:.0f} s")
                for each in profile.findings
            )
            after = site.measure(lifted(site, profile, "direct", times))
            yield name, title, site.measure(site.table("direct")), after, str(profile.active), found


def _disturbed(site: Site) -> Iterator[tuple[str, np.ndarray]]:
    rng, camids, times = np.random.default_rng(0), site.camids, site.times
    permuted = times.copy()
    for camid in np.unique(camids):
        mine = np.flatnonzero(camids == camid)
        permuted[mine] = times[rng.permutation(mine)]
    yield "as they are", times
    yield "times permuted", permuted
    yield "offset 1000 s a camera", times + 1000.0 * camids
    yield "camera 2 drifts 0.2 %", np.where(camids == 2, times * 1.002, times)
    yield "camera 2 jumps 600 s at 14400 s", times + 600.0 * ((camids == 2) & (times >= 14400))


def days() -> Iterator[Row]:
    """Simulated walks of two days: mAP of the second, lifted by each day's profile."""
    yield "seed", "none", "fitted that day", "fitted the day before", "share %"
    for seed in range(31, 46):
        before, day = two_days(seed)
        own, used = (day.measure(day.lift(profile)) for profile in (day.fit(), before.fit()))
        none = day.measure(day.table)
        yield seed, none, own, used, 100 * (used - none) / (own - none)


def real() -> Iterator[Row]:
    """Market-1501 or another network of real people, matched in this folder; * without same-camera images."""
    yield "deployment", "model", "ranking", "none", "paper", "fitted", "none*", "paper*", "fitted*", "fitted - paper"
    for name in load_params().deployments:
        for method in METHODS:
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
    fit = million_sightings()
    start = time.perf_counter()
    profile = fit()
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    evidence = profile.evidence
    yield 1_000_000, len(profile.camids), seconds, peak, evidence["gain_nats"], max(evidence["control_nats"])


PARTS: dict[str, Callable[[], Iterator[Row]]] = {
    "sites": sites,
    "clocks": clocks,
    "days": days,
    "scale": scale,
    "real": real,
}

OF_THE_DEMO = tuple(PARTS)[:-1]


def main(parts: list[str]) -> None:
    """Prints a table for each part."""
    if unknown := [part for part in parts if part not in PARTS]:
        sys.exit(f"refused: there is no part {', '.join(unknown)}; legal are {', '.join(PARTS)}")
    for part in parts or OF_THE_DEMO:
        head, *rows = PARTS[part]()
        table = Table(*map(str, head), title=f"{part}: {PARTS[part].__doc__}", title_justify="left")
        for row in rows:
            table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in row))
        Console(width=160).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
