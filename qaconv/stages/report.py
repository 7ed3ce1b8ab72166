"""A model's maps, figures and profiles on every target go in; a page that stands alone, and its data, come out."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from qaconv.config import METHODS, RANKINGS, Params
from qaconv.data.manifest import JUNK, Manifest
from qaconv.errors import InputError
from qaconv.files import replacing_folder, write_json
from qaconv.matching import MapStore
from qaconv.matching.results import Matches, open_maps
from qaconv.metrics.verification import FALSE_MATCH_RATES
from qaconv.models.checkpoint import load_network
from qaconv.models.head import QAConv
from qaconv.paths import METRICS, MODELS, PREPARED, RAW, REPORT, TLIFT
from qaconv.progress import track
from qaconv.report import Report, render_page
from qaconv.report.content import TRANSIT_S, Explanation, Figure, Rows, Search, Target, TimeLine
from qaconv.report.examples import OUTCOMES, Ranking, choose, explain, outcomes, search, time_line, worth_explaining
from qaconv.report.pictures import data_uri
from qaconv.tlift import TLiftProfile
from qaconv.tlift.clock_checks import correct_times

log = logging.getLogger(__name__)

EACH = 2  # examples of every outcome
TABLES = ("cmc", "roc", "camera_pairs")  # metrics/<table>/<target>.csv
PAIRS = 200_000  # about as many make the distributions of scores
BINS = 40


def report(params: Params) -> None:
    """Writes artifacts/report: `report.html`, which needs no other file, and `report.json`, the same without pictures.

    Raises:
        InputError: a file of an earlier stage is missing or not what it should be.
    """
    head = load_network(MODELS / "qaconv")[0].head
    content = Report(
        trained={method: _read_json(MODELS / method / "model.json") for method in METHODS},
        history={method: _read_table(MODELS / method / "history.csv") for method in METHODS},
        seed=params.seed,
        targets=[_target(params, name, head) for name in track(params.targets, "gather examples")],
    )
    page = render_page(content, {target.name: _pictures(target) for target in content.targets})
    with replacing_folder(REPORT) as beside:
        (beside / "report.html").write_text(page, encoding="utf-8")
        write_json(beside / "report.json", content.as_data())
    log.info("%s: %.1f MB", REPORT / "report.html", len(page.encode()) / 1e6)


def _target(params: Params, target: str, head: QAConv) -> Target:
    manifest = Manifest.load(PREPARED / target)
    sightings = manifest.sightings()
    maps = open_maps(target, "qaconv", sightings["image"])
    seen = _Seen(sightings, maps, head, Matches.load(target, "qaconv", params.evaluate.parts))
    measured = _read_json(METRICS / f"{target}.json")
    queries = _read(pd.read_parquet, METRICS / "queries" / f"{target}.parquet").set_index("image")
    before, after = (queries[f"qaconv_{ranking}_average_precision"] for ranking in ("direct", "tlift"))
    ended = outcomes(queries["qaconv_direct_first_rank"])
    searches, explanations = _searches(seen, ended, before, params.seed)
    profile = TLIFT / target / "qaconv.json"
    return Target(
        name=target,
        seen=target in params.train.datasets,
        blurred=_blurs(params, target),
        root=manifest.root.as_posix(),
        queries=int(ended.notna().sum()),
        gallery=len(seen.gallery),
        cameras=int(sightings["camid"].nunique()),
        digest=manifest.digest,
        figures=_figures(measured),
        gain=_figure(measured["qaconv_minus_baseline"]["direct"], "mAP"),
        thresholds=_thresholds(measured),
        tables={
            **{name: _read_table(METRICS / name / f"{target}.csv") for name in TABLES},
            "scores": _rows(_score_table(seen, params.seed)),
            "transit": _transit(TLIFT / target / "qaconv_transit.csv"),
        },
        outcomes={outcome: int((ended == outcome).sum()) for outcome in OUTCOMES},
        searches=searches,
        explanations=explanations,
        profile=_read_json(profile),
        time_lines=_time_lines(seen, TLiftProfile.load(profile, model=seen.maps.model), before, after),
    )


class _Seen:
    """A target's sightings with their maps and matches.

    Attributes:
        frame: image, pid, camid, time_s, split; N rows, as in the maps.
        gallery: rows of the gallery without junk.
    """

    def __init__(self, frame: pd.DataFrame, maps: MapStore, head: QAConv, matches: Matches) -> None:
        self.frame, self.maps, self.head, self._matches = frame, maps, head, matches
        self.gallery = np.flatnonzero((frame["split"] == "gallery") & (frame["pid"] != JUNK))
        self._rows = {image: row for row, image in enumerate(frame["image"])}

    def row(self, image: str) -> int:
        return self._rows[image]

    def logits(self, rows: list[int]) -> NDArray[np.float32]:
        """[len(rows), N]: some queries against the gallery, NaN where the other sighting is a query."""
        found = self._matches.logits[rows]
        return np.pad(found, ((0, 0), (len(self.frame) - found.shape[1], 0)), constant_values=np.nan)


def _searches(
    seen: _Seen, ended: pd.Series, precisions: pd.Series, seed: int
) -> tuple[list[Search], list[Explanation]]:
    """Examples of every outcome; the first of each is explained."""
    searches, explanations = [], []
    for outcome, images in choose(ended, EACH, seed).items():
        for image in images:
            row = seen.row(image)
            ranking = Ranking(seen.frame, row, seen.logits([row])[0])
            searches.append(search(ranking, outcome, float(precisions[image])))
            if image == images[0]:
                explanations += [explain(ranking, at, seen.maps, seen.head) for at in worth_explaining(ranking)]
    return searches, explanations


def _time_lines(seen: _Seen, profile: TLiftProfile, before: pd.Series, after: pd.Series) -> list[TimeLine]:
    """Of the query that time helped the most, and of the one that it helped the least."""
    if not profile.active:
        return []
    gain = (after - before).dropna().sort_index()
    lines = []
    for image in dict.fromkeys([str(gain.idxmax()), str(gain.idxmin())]):
        row = seen.row(image)
        rows = _companions(seen.frame, row, profile)
        logits = seen.logits(rows)
        scores = expit(logits.astype(np.float64))
        asking, answering = seen.frame.iloc[rows], seen.frame.iloc[seen.gallery]
        lifted = scores.copy()
        lifted[:, seen.gallery] = profile.lift(
            scores[:, seen.gallery], asking["camid"], asking["time_s"], answering["camid"], answering["time_s"]
        )
        own = rows.index(row)
        ranking = Ranking(seen.frame, row, logits[own])
        lines.append(time_line(ranking, scores[own], lifted[own], float(before[image]), float(after[image])))
    return lines


def _companions(frame: pd.DataFrame, row: int, profile: TLiftProfile) -> list[int]:
    """Queries on one camera within tau of a query, itself among them: the lift asks for no others."""
    times = correct_times(dict(profile.clocks), frame["camid"].to_numpy(), frame["time_s"].to_numpy())
    here = ((frame["split"] == "query") & (frame["camid"] == frame["camid"].iloc[row])).to_numpy()
    near = np.abs(times - times[row]) < profile.parameters.tau_s
    return sorted({row, *np.flatnonzero(here & near).tolist()})


def _score_table(seen: _Seen, seed: int) -> pd.DataFrame:
    """Scores of pairs of one person (matches) and of two (others), of queries drawn with the seed, for a steady size.

    Of each kind the share in each bin low..high.
    """
    asked = np.flatnonzero(seen.frame["split"] == "query")
    count = max(20, PAIRS // len(seen.frame))
    drawn = np.sort(np.random.default_rng(seed).permutation(asked)[:count]).tolist()
    found: dict[str, list[NDArray]] = {"right": [], "wrong": []}
    for row, scores in zip(drawn, seen.logits(drawn), strict=True):
        ranking = Ranking(seen.frame, row, scores)
        for verdict, kind in found.items():
            kind.append(scores[ranking.order[ranking.verdicts[ranking.order] == verdict]])
    matches, others = (np.concatenate(kind) for kind in found.values())
    edges = np.linspace(
        min(matches.min(initial=0), others.min(initial=0)), max(matches.max(initial=0), others.max(initial=0)), BINS + 1
    )
    shares = [np.histogram(kind, edges)[0] / max(1, len(kind)) for kind in (matches, others)]
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "matches": shares[0], "others": shares[1]})


def _transit(path: Path) -> Rows:
    """What the profile says of gaps between cameras; there is no such file where nothing could be fitted."""
    if not path.is_file():
        return []
    table = pd.read_csv(path)
    return _rows(table[table["from_centre_s"].abs() <= TRANSIT_S])


def _blurs(params: Params, target: str) -> bool:
    """The synthetic sites show nobody real."""
    if params.report.blur == "auto":
        return params.dataset(target).path not in [RAW / site for site in params.sites]
    return params.report.blur


def _figures(measured: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Figure]]]:
    return {
        method: {
            ranking: {name: _figure(measured[method][ranking], name) for name in ("rank1", "mAP")}
            for ranking in RANKINGS
        }
        for method in METHODS
    }


def _figure(measured: Mapping[str, float], name: str) -> Figure:
    return Figure(*(measured[name + end] for end in ("", "_low", "_high")))


def _thresholds(measured: Mapping[str, Any]) -> Rows:
    found = measured["qaconv"]["verification"]
    return [
        {
            "false_match_rate": rate,
            "threshold": found[f"threshold_at_{rate:g}"],
            "true_match_rate": found[f"true_match_rate_at_{rate:g}"],
        }
        for rate in FALSE_MATCH_RATES
    ]


def _pictures(target: Target) -> dict[str, str]:
    """Data URIs of the images that the page shows, by name."""
    return {image: data_uri(Path(target.root) / image, blur=target.blurred) for image in target.images()}


def _read_json(path: Path) -> dict[str, Any]:
    return dict(_read(lambda at: json.loads(at.read_text(encoding="utf-8")), path))


def _read_table(path: Path) -> Rows:
    return _rows(_read(pd.read_csv, path))


def _rows(table: pd.DataFrame) -> Rows:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _read(reader: Callable[[Path], Any], path: Path) -> Any:
    """What an earlier stage has written."""
    try:
        return reader(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}; `dvc repro` writes it") from error
