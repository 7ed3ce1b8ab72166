"""What a report says goes in; where it stands in a drawing comes out, in the drawing's units. The templates draw."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from qaconv.report.content import Figure, Rows, Target

WIDTH, HEIGHT = 360.0, 240.0  # a phone's width, so that letters are as large as the page's
LEFT, RIGHT, TOP, BOTTOM = 40.0, 18.0, 24.0, 40.0  # margins
SHARES = (0, 0.2, 0.4, 0.6, 0.8, 1)
RANKS = 20  # of the CMC
LEAST_RATE = 1e-4  # of the ROC
TRANSIT_WIDTH, TRANSIT_HEIGHT = 160.0, 70.0
ROW = 46.0  # height of a target on the opening chart


@dataclass(frozen=True)
class Axis:
    """One axis: value -> unit of the drawing; values beyond an end stand at the end.

    Attributes:
        low: value at `start`.
        high: value at `end`.
        start: in the drawing.
        end: in the drawing.
        ticks: values that are marked.
        log: whether equal ratios, rather than equal differences, are equally far apart.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: Sequence[float] = ()
    log: bool = False

    def at(self, value: float) -> float:
        """Where a value stands, to a tenth of a unit."""
        value = min(max(value, self.low), self.high)
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 1)


@dataclass(frozen=True)
class Curve:
    """A line or an area: what it is called, its CSS class, and the `d` of its path."""

    label: str
    style: str
    d: str


@dataclass(frozen=True)
class Chart:
    """Curves between two axes.

    Attributes:
        x: from left to right.
        y: upwards.
        curves: drawn in this order.
        marks: x and label of vertical lines.
    """

    x: Axis
    y: Axis
    curves: Sequence[Curve]
    marks: Sequence[tuple[float, str]] = ()


def cmc_chart(rows: Rows) -> Chart:
    """How often a right image is among the first k."""
    rows = rows[:RANKS]
    x, y = (
        _across(1, max(2, len(rows)), [rank for rank in (1, 5, 10, 15, 20) if rank <= len(rows)]),
        _upwards(1, SHARES),
    )
    ranks = [row["rank"] for row in rows]
    names = [
        ("QAConv, re-ranked and lifted", "qaconv helped", "qaconv_reranked_tlift"),
        ("QAConv", "qaconv", "qaconv_direct"),
        ("baseline, re-ranked and lifted", "baseline helped", "baseline_reranked_tlift"),
        ("baseline", "baseline", "baseline_direct"),
    ]
    return Chart(x, y, [Curve(of, style, _line(x, y, ranks, [row[key] for row in rows])) for of, style, key in names])


def roc_chart(rows: Rows) -> Chart:
    """How many matches a threshold finds, for the share of other pairs that it lets through."""
    x, y = _across(LEAST_RATE, 1, (1e-4, 1e-3, 1e-2, 1e-1, 1), log=True), _upwards(1, SHARES)
    curves = []
    for label, method in (("QAConv", "qaconv"), ("baseline", "baseline")):
        found = [row for row in rows if row["method"] == method]
        rates = [[row[name] for row in found] for name in ("false_match_rate", "true_match_rate")]
        curves.append(Curve(label, method, _line(x, y, *rates)))
    return Chart(x, y, curves)


def score_chart(rows: Rows, thresholds: Rows) -> Chart:
    """How scores of matches and of other pairs are spread, each kind as shares of its own."""
    low, high = rows[0]["low"], rows[-1]["high"]
    step = 10 ** math.floor(math.log10((high - low) / 2))
    x = _across(low, high, [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)])
    most = max(row[kind] for row in rows for kind in ("matches", "others"))
    y = _upwards(most * 1.35, [share for share in (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8) if share <= most])
    edges = [*(row["low"] for row in rows), high]
    kinds = [("two people", "others"), ("one person", "matches")]
    curves = [Curve(label, kind, _steps(x, y, edges, [row[kind] for row in rows])) for label, kind in kinds]
    marks = [(x.at(row["threshold"]), f"1 in {round(1 / row['false_match_rate']):,}") for row in thresholds]
    return Chart(x, y, curves, marks)


@dataclass(frozen=True)
class Transit:
    """How long people take between two cameras: a small chart of likelihood over chance, on one scale for all pairs.

    Attributes:
        camera: the first.
        other: the second.
        likeliest_s: the gap between their clocks that is the likeliest.
        d: the area between the curve and what chance gives.
        chance: where that stands.
    """

    camera: int
    other: int
    likeliest_s: float
    d: str
    chance: float


def transit_charts(rows: Rows) -> list[Transit]:
    """A chart a pair of cameras, of rows camera, other, gap_s, from_centre_s and log_ratio."""
    if not rows:
        return []
    ratios = [row["log_ratio"] for row in rows]
    x = Axis(rows[0]["from_centre_s"], rows[-1]["from_centre_s"], 2, TRANSIT_WIDTH - 2)
    y = Axis(min(0, *ratios), max(ratios), TRANSIT_HEIGHT - 2, 2)
    charts = []
    for (camera, other), pair in groupby(rows, lambda row: (row["camera"], row["other"])):
        found = list(pair)
        across = [found[0]["from_centre_s"], *(row["from_centre_s"] for row in found), found[-1]["from_centre_s"]]
        d = _line(x, y, across, [0, *(row["log_ratio"] for row in found), 0]) + "Z"
        likeliest = max(found, key=lambda row: row["log_ratio"])
        charts.append(Transit(camera, other, likeliest["gap_s"], d, y.at(0)))
    return charts


@dataclass(frozen=True)
class Dot:
    """A figure with its interval on the opening chart: a row, its style, where it stands, and how it reads."""

    y: float
    style: str
    at: float
    low: float
    high: float
    figure: Figure


def opening_chart(targets: Sequence[Target]) -> tuple[Axis, list[Dot], float]:
    """Rank-1 of both methods, a row a target; and the chart's height."""
    x = Axis(0, 1, 12, WIDTH - 12, (0, 0.25, 0.5, 0.75, 1))
    dots = [
        Dot(row * ROW + 28 + shift, method, x.at(of.value), x.at(of.low), x.at(of.high), of)
        for row, target in enumerate(targets)
        for method, shift in (("qaconv", 0.0), ("baseline", 10.0))
        for of in [target.figures[method]["direct"]["rank1"]]
    ]
    return x, dots, len(targets) * ROW + 24


def _across(low: float, high: float, ticks: Sequence[float], *, log: bool = False) -> Axis:
    return Axis(low, high, LEFT, WIDTH - RIGHT, ticks, log)


def _upwards(high: float, ticks: Sequence[float]) -> Axis:
    return Axis(0, high, HEIGHT - BOTTOM, TOP, ticks)


def _line(x: Axis, y: Axis, xs: Sequence[float], ys: Sequence[float]) -> str:
    return "M" + "L".join(f"{x.at(a):g} {y.at(b):g}" for a, b in zip(xs, ys, strict=True))


def _steps(x: Axis, y: Axis, edges: Sequence[float], heights: Sequence[float]) -> str:
    """A histogram's outline, closed at the bottom."""
    xs = [edge for edge in edges for _ in range(2)]
    return _line(x, y, xs, [0, *(height for height in heights for _ in range(2)), 0]) + "Z"
