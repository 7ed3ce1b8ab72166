"""Compute the positions in charts, in the drawing's units; the templates draw."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from qaconv.metrics.rankings import DIRECT, cmc_column
from qaconv.report.content import Figure, Rows, Target

WIDTH, HEIGHT = 360.0, 240.0  # a phone's width, so that text is as large as on the page
LEFT, RIGHT, TOP, BOTTOM = 40.0, 18.0, 24.0, 40.0  # margins
SHARES = (0, 0.2, 0.4, 0.6, 0.8, 1)
RANKS = 20  # of the CMC
MIN_RATE = 1e-4  # of the ROC
TRANSIT_WIDTH, TRANSIT_HEIGHT = 160.0, 70.0
STYLES = 4  # of methods; further ones share the last


@dataclass(frozen=True)
class Axis:
    """An axis from values to positions in the drawing; values outside it are at an end.

    Attributes:
        low: value at `start`.
        high: value at `end`.
        start: position of `low`.
        end: position of `high`.
        ticks: values with a mark.
        log: whether the axis is logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: Sequence[float] = ()
    log: bool = False

    def position(self, value: float) -> float:
        """Return the position of a value to a tenth of a unit."""
        value = min(max(value, self.low), self.high)
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 1)


@dataclass(frozen=True)
class Curve:
    """A line or an area: its label, its CSS class and the `d` of its path."""

    label: str
    style: str
    d: str


@dataclass(frozen=True)
class Chart:
    """Curves between two axes.

    Attributes:
        x: from left to right.
        y: upwards.
        curves: in the order of drawing.
        marks: x and label of vertical lines.
    """

    x: Axis
    y: Axis
    curves: Sequence[Curve]
    marks: Sequence[tuple[float, str]] = ()


def cmc_chart(rows: Rows, rankings: Mapping[str, str], methods: Iterable[str]) -> Chart:
    """Draw the CMC of direct matching and of the last ranking for each method.

    Args:
        rows: of metrics/cmc.
        rankings: label by key.
        methods: names, the served one first.
    """
    rows = rows[:RANKS]
    x = _across(1, max(2, len(rows)), [rank for rank in (1, 5, 10, 15, 20) if rank <= len(rows)])
    y = _upwards(1, SHARES)
    ranks = [row["rank"] for row in rows]
    last = list(rankings)[-1]
    curves = []
    for number, method in enumerate(methods):
        for key, label, style in (
            (last, f"{method}, {rankings[last]}", f"{method_style(number)} helped"),
            (DIRECT.key, method, method_style(number)),
        ):
            column = cmc_column(method, key)
            curves.append(Curve(label, style, _line(x, y, ranks, [row[column] for row in rows])))
    return Chart(x, y, curves)


def roc_chart(rows: Rows, methods: Iterable[str]) -> Chart:
    """Draw the ROC of direct matching for each method."""
    x = _across(MIN_RATE, 1, (1e-4, 1e-3, 1e-2, 1e-1, 1), log=True)
    y = _upwards(1, SHARES)
    curves = []
    for number, method in enumerate(methods):
        of_method = [row for row in rows if row["method"] == method]
        rates = [[row[name] for row in of_method] for name in ("false_match_rate", "true_match_rate")]
        curves.append(Curve(method, method_style(number), _line(x, y, *rates)))
    return Chart(x, y, curves)


def score_chart(rows: Rows, thresholds: Rows) -> Chart:
    """Draw the distributions of the scores of matches and of other pairs, with the thresholds."""
    low, high = rows[0]["low"], rows[-1]["high"]
    step = 10 ** math.floor(math.log10((high - low) / 2))
    x = _across(low, high, [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)])
    largest = max(row[kind] for row in rows for kind in ("matches", "others"))
    y = _upwards(largest * 1.35, [share for share in (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8) if share <= largest])
    edges = [*(row["low"] for row in rows), high]
    kinds = [("two people", "others"), ("one person", "matches")]
    curves = [Curve(label, kind, _steps(x, y, edges, [row[kind] for row in rows])) for label, kind in kinds]
    marks = [(x.position(row["threshold"]), f"1 in {round(1 / row['false_match_rate']):,}") for row in thresholds]
    return Chart(x, y, curves, marks)


@dataclass(frozen=True)
class Transit:
    """A chart of the transit times between two cameras: log likelihood ratio to chance, on one scale for all pairs.

    Attributes:
        camera: the first.
        other: the second.
        likeliest_s: most likely gap between their clocks, in seconds.
        d: path of the area between the curve and chance.
        chance: position of chance.
    """

    camera: int
    other: int
    likeliest_s: float
    d: str
    chance: float


def transit_charts(rows: Rows) -> list[Transit]:
    """Draw a chart for each pair of cameras from rows of camera, other, gap_s, from_centre_s and log_ratio."""
    if not rows:
        return []
    ratios = [row["log_ratio"] for row in rows]
    x = Axis(rows[0]["from_centre_s"], rows[-1]["from_centre_s"], 2, TRANSIT_WIDTH - 2)
    y = Axis(min(0, *ratios), max(ratios), TRANSIT_HEIGHT - 2, 2)
    charts = []
    for (camera, other), pair in groupby(rows, lambda row: (row["camera"], row["other"])):
        bins = list(pair)
        gaps = [bins[0]["from_centre_s"], *(row["from_centre_s"] for row in bins), bins[-1]["from_centre_s"]]
        d = _line(x, y, gaps, [0, *(row["log_ratio"] for row in bins), 0]) + "Z"
        likeliest = max(bins, key=lambda row: row["log_ratio"])
        charts.append(Transit(camera, other, likeliest["gap_s"], d, y.position(0)))
    return charts


@dataclass(frozen=True)
class Presence:
    """A chart of how many identities a camera saw over time, on one scale for all cameras.

    Attributes:
        camid: camera.
        most: largest number in one step.
        d: path of the area.
    """

    camid: int
    most: int
    d: str


def presence_charts(rows: Rows) -> list[Presence]:
    """Draw a chart for each camera from rows of camid, from_s, to_s and identities."""
    if not rows:
        return []
    x = Axis(rows[0]["from_s"], rows[-1]["to_s"], 2, TRANSIT_WIDTH - 2)
    y = Axis(0, max(row["identities"] for row in rows), TRANSIT_HEIGHT - 2, 2)
    charts = []
    for camid, steps in groupby(rows, lambda row: row["camid"]):
        bins = list(steps)
        edges = [bins[0]["from_s"], *(row["to_s"] for row in bins)]
        counts = [row["identities"] for row in bins]
        charts.append(Presence(camid, max(counts), _steps(x, y, edges, counts)))
    return charts


@dataclass(frozen=True)
class Dot:
    """A figure with its interval on the opening chart: positions, CSS class and value."""

    y: float
    style: str
    x: float
    low: float
    high: float
    figure: Figure


def opening_chart(targets: Sequence[Target], methods: Collection[str]) -> tuple[Axis, list[Dot], float]:
    """Draw rank-1 of all methods in a row for each target; also return the chart's height."""
    x = Axis(0, 1, 12, WIDTH - 12, (0, 0.25, 0.5, 0.75, 1))
    height = target_height(len(methods))
    dots = [
        _dot(x, row * height + 28 + 10.0 * number, method_style(number), target.figures[method][DIRECT.key]["rank1"])
        for row, target in enumerate(targets)
        for number, method in enumerate(methods)
    ]
    return x, dots, len(targets) * height + 24


def target_height(methods: int) -> float:
    """Return the height of a target on the opening chart, with a line for its name."""
    return 26 + 10.0 * methods


def method_style(number: int) -> str:
    """Return the CSS class of a method; 0 is the served one."""
    return f"method-{min(number, STYLES - 1)}"


def _dot(x: Axis, y: float, style: str, figure: Figure) -> Dot:
    return Dot(y, style, x.position(figure.value), x.position(figure.low), x.position(figure.high), figure)


def _across(low: float, high: float, ticks: Sequence[float], *, log: bool = False) -> Axis:
    return Axis(low, high, LEFT, WIDTH - RIGHT, ticks, log)


def _upwards(high: float, ticks: Sequence[float]) -> Axis:
    return Axis(0, high, HEIGHT - BOTTOM, TOP, ticks)


def _line(x: Axis, y: Axis, xs: Sequence[float], ys: Sequence[float]) -> str:
    return "M" + "L".join(f"{x.position(a):g} {y.position(b):g}" for a, b in zip(xs, ys, strict=True))


def _steps(x: Axis, y: Axis, edges: Sequence[float], heights: Sequence[float]) -> str:
    """Outline of a histogram, closed at the bottom."""
    xs = [edge for edge in edges for _ in range(2)]
    return _line(x, y, xs, [0, *(height for height in heights for _ in range(2)), 0]) + "Z"
