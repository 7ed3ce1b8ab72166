"""Gather what a report shows of a target from the outputs of the earlier stages.

N sightings: Q queries, then the gallery.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from qaconv.config import Params
from qaconv.data.manifest import Manifest, is_measured
from qaconv.files import read_file, read_json
from qaconv.matching import MapStore
from qaconv.matching.results import Matches, open_maps
from qaconv.metrics.metrics_file import Difference, RankingFigures, TargetMetrics
from qaconv.metrics.rankings import (
    DIRECT,
    LIFTED,
    Ranking,
    average_precision_column,
    first_rank_column,
)
from qaconv.paths import METRICS, PREPARED, RAW, TLIFT
from qaconv.report.content import TRANSIT_S, EstimatedTarget, Explanation, Figure, Rows, Search, Target, TimeLine
from qaconv.report.examples import (
    OUTCOMES,
    QueryRanking,
    choose,
    explain,
    outcomes,
    rows_to_explain,
    search,
    time_line,
)
from qaconv.report.gather_people import gather_people
from qaconv.report.pictures import data_uri
from qaconv.runtime.head import Head
from qaconv.tables import ComputedTable, as_scores
from qaconv.tlift import TLiftProfile
from qaconv.tlift.clock_checks import correct_times

EXAMPLES = 2  # of each outcome
TABLES = ("cmc", "roc", "camera_pairs", "stated")  # metrics/<table>/<target>.csv
SCORE_PAIRS = 200_000  # about as many pairs make the distributions of scores
SCORE_BINS = 40


class TargetSightings:
    """Sightings of a target with their maps and matches.

    Attributes:
        frame: image, pid, camid, time_s and split of the N sightings.
        queries: rows of the measured queries.
        gallery: rows of the measured gallery.
        maps: of the N sightings.
        head: of the network, as numbers.
        matches: of the N sightings.
    """

    def __init__(self, frame: pd.DataFrame, maps: MapStore, head: Head, matches: Matches) -> None:
        self.frame, self.maps, self.head, self.matches = frame, maps, head, matches
        measured = is_measured(frame)
        self.queries = np.flatnonzero((frame["split"] == "query") & measured)
        self.gallery = np.flatnonzero((frame["split"] == "gallery") & measured)
        self._rows = {image: row for row, image in enumerate(frame["image"])}

    @classmethod
    def load(cls, params: Params, target: str, manifest: Manifest, head: Head) -> "TargetSightings":
        """Load the maps and matches of the served method.

        Raises:
            InputError: they are missing, or of other images.
        """
        frame = manifest.sightings()
        maps = open_maps(target, params.registry.method, frame["image"])
        return cls(frame, maps, head, Matches.load(target, params.registry.method))

    def row(self, image: str) -> int:
        """Return the row of an image."""
        return self._rows[image]

    def logits(self, rows: list[int]) -> NDArray[np.float32]:
        """Return logits of some queries with the gallery, [len(rows), N]; NaN in the columns of queries."""
        logits = self.matches.logits[np.array(rows)]
        return np.pad(logits, ((0, 0), (len(self.frame) - logits.shape[1], 0)), constant_values=np.nan)


def gather_target(
    params: Params, target: str, metrics: TargetMetrics, head: Head, rankings: Sequence[Ranking]
) -> Target:
    """Gather figures and examples of a target with labels.

    Args:
        params: datasets, seed and report settings.
        target: name.
        metrics: of the target.
        head: of the served network, as numbers.
        rankings: to show.

    Raises:
        InputError: a file of an earlier stage is missing or cannot be read.
    """
    manifest = Manifest.load(PREPARED / target)
    sightings = TargetSightings.load(params, target, manifest, head)
    method = params.registry.method
    profile = load_profile(params, target, sightings)
    queries = read_file(pd.read_parquet, METRICS / "queries" / f"{target}.parquet").set_index("image")
    before, after = (queries[average_precision_column(method, key)] for key in (DIRECT.key, LIFTED))
    outcome_of = outcomes(queries[first_rank_column(method, DIRECT.key)])
    searches, explanations = _searches(sightings, outcome_of, before, params.seed)
    _, *others = params.method_names
    return Target(
        **describe_network(params, target, manifest),
        people=gather_people(target, sightings.frame, sightings.matches, profile),
        reranking=sightings.matches.choice,
        queries=int(outcome_of.notna().sum()),
        gallery=len(sightings.gallery),
        figures=_figures(metrics, rankings),
        splits={name: made.splits.model_dump() for name, made in metrics.methods.items() if made.splits},
        gains={other: _figure(metrics.differences[method, other][DIRECT.key], "mAP") for other in others},
        thresholds=[point.model_dump() for point in metrics.methods[method].verification.points],
        marked=None if (marked := metrics.methods[method].marked) is None else marked.model_dump(),
        tables={
            **{name: read_table(METRICS / name / f"{target}.csv") for name in TABLES},
            "scores": _rows(_score_table(sightings, params.seed)),
            "transit": read_transit(params, target),
        },
        outcomes={outcome: int((outcome_of == outcome).sum()) for outcome in OUTCOMES},
        searches=searches,
        explanations=explanations,
        time_lines=_time_lines(sightings, profile, before, after),
    )


def describe_network(params: Params, target: str, manifest: Manifest) -> dict[str, Any]:
    """Return the fields that targets with labels and without have in common, except people and tables."""
    return {
        "name": target,
        "seen": target in params.sources.datasets,
        "blurred": has_blurred_heads(params, target),
        "root": manifest.root.as_posix(),
        "cameras": int(manifest.sightings()["camid"].nunique()),
        "camera_names": manifest.cameras,
        "digest": manifest.digest,
        "profile": read_json(TLIFT / target / f"{params.registry.method}.json"),
    }


def load_profile(params: Params, target: str, sightings: TargetSightings) -> TLiftProfile:
    """Load the temporal profile of the served method.

    Raises:
        InputError: it cannot be read, or was fitted for another model.
    """
    return TLiftProfile.load(TLIFT / target / f"{params.registry.method}.json", model=sightings.maps.model)


def gather_pictures(target: Target | EstimatedTarget) -> dict[str, str]:
    """Return data URIs of the images that the page shows, by name."""
    return {image: data_uri(Path(target.root) / image, blur=target.blurred) for image in target.images()}


def has_blurred_heads(params: Params, target: str) -> bool:
    """Return whether heads are blurred: `report.blur`, where "auto" leaves out the synthetic sites only."""
    if params.report.blur == "auto":
        return params.dataset(target).path not in [RAW / site for site in params.sites]
    return params.report.blur


def read_table(path: Path) -> Rows:
    """Read a CSV table that an earlier stage has written.

    Raises:
        InputError: the file cannot be read.
    """
    return _rows(read_file(pd.read_csv, path))


def _searches(
    sightings: TargetSightings, outcome_of: "pd.Series[Any]", precisions: "pd.Series[Any]", seed: int
) -> tuple[list[Search], list[Explanation]]:
    """Examples of every outcome, and explanations of the first of each."""
    searches, explanations = [], []
    for outcome, images in choose(outcome_of, EXAMPLES, seed).items():
        for image in images:
            row = sightings.row(image)
            ranking = QueryRanking(sightings.frame, row, sightings.logits([row])[0])
            searches.append(search(ranking, outcome, float(precisions[image])))
            if image == images[0]:
                maps, head = sightings.maps, sightings.head
                explanations += [explain(ranking, answer, maps, head) for answer in rows_to_explain(ranking)]
    return searches, explanations


def _time_lines(
    sightings: TargetSightings, profile: TLiftProfile, before: "pd.Series[Any]", after: "pd.Series[Any]"
) -> list[TimeLine]:
    """Time lines of the query that gained the most by times, and of the one that gained the least."""
    if not profile.active:
        return []
    gain = (after - before).dropna().sort_index()
    lines = []
    for image in dict.fromkeys([str(gain.idxmax()), str(gain.idxmin())]):
        row = sightings.row(image)
        scores, lifted = lift_query(sightings, row, profile)
        ranking = QueryRanking(sightings.frame, row, sightings.logits([row])[0])
        lines.append(time_line(ranking, scores, lifted, float(before[image]), float(after[image])))
    return lines


def lift_query(
    sightings: TargetSightings, row: int, profile: TLiftProfile
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a query's scores with every sighting, and its lifted scores, both [N]; NaN in the columns of queries."""
    rows = np.array(_companions(sightings, row, profile))
    query, gallery = sightings.frame.iloc[rows], sightings.frame.iloc[sightings.gallery]
    logits, queries = sightings.matches.logits, sightings.matches.logits.shape[0]
    shape = (len(rows), len(sightings.gallery))
    measured = ComputedTable(shape, logits.dtype, lambda some: logits[rows[some]][:, sightings.gallery - queries])
    places = query["camid"], query["time_s"], gallery["camid"], gallery["time_s"]
    scores = expit(sightings.logits([row])[0].astype(np.float64))
    lifted = scores.copy()
    position = np.searchsorted(rows, [row])
    lifted[sightings.gallery] = profile.lifted(as_scores(measured), *places)[position][0]
    return scores, lifted


def _companions(sightings: TargetSightings, row: int, profile: TLiftProfile) -> list[int]:
    """Rows of the queries on a query's camera within tau of it, itself among them: its lift depends on no others."""
    camids, times = (sightings.frame[name].to_numpy() for name in ("camid", "time_s"))
    times = correct_times(dict(profile.clocks), camids, times)
    near = (camids == camids[row]) & (np.abs(times - times[row]) < profile.parameters.tau_s)
    return sorted({row, *sightings.queries[near[sightings.queries]].tolist()})


def _score_table(sightings: TargetSightings, seed: int) -> pd.DataFrame:
    """Share of pairs of one person (matches) and of two (others) in each bin of scores low..high.

    Pairs are of queries drawn with the seed, so that the number of pairs is about the same for every target.
    """
    count = max(20, SCORE_PAIRS // len(sightings.frame))
    drawn = np.sort(np.random.default_rng(seed).permutation(sightings.queries)[:count]).tolist()
    blocks: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]] = ([], [])
    for row, scores in zip(drawn, sightings.logits(drawn), strict=True):
        ranking = QueryRanking(sightings.frame, row, scores)
        for verdict, kind in zip(("match", "not a match"), blocks, strict=True):
            kind.append(scores[ranking.order[ranking.verdicts[ranking.order] == verdict]])
    matches, others = (np.concatenate(kind) for kind in blocks)
    lowest = min(matches.min(initial=0), others.min(initial=0))
    highest = max(matches.max(initial=0), others.max(initial=0))
    edges = np.linspace(lowest, highest, SCORE_BINS + 1)
    shares = [np.histogram(kind, edges)[0] / max(1, len(kind)) for kind in (matches, others)]
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "matches": shares[0], "others": shares[1]})


def read_transit(params: Params, target: str) -> Rows:
    """Read the transit times of a profile; none for a profile without them, which has no such file."""
    path = TLIFT / target / f"{params.registry.method}_transit.csv"
    if not path.is_file():
        return []
    table = pd.read_csv(path)
    return _rows(table[table["from_centre_s"].abs() <= TRANSIT_S])


def _figures(metrics: TargetMetrics, rankings: Sequence[Ranking]) -> dict[str, dict[str, Mapping[str, Figure]]]:
    return {
        name: {
            ranking.key: {figure: _figure(method.rankings[ranking.key], figure) for figure in ("rank1", "mAP")}
            for ranking in rankings
        }
        for name, method in metrics.methods.items()
    }


def _figure(figures: RankingFigures | Difference, name: str) -> Figure:
    return Figure(*(getattr(figures, name + end) for end in ("", "_low", "_high")))


def _rows(table: pd.DataFrame) -> Rows:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
